//! The kinds of traps, for metrics.

use wasmtime::{Error, Trap};

/// The kind of a trap. Fuel, deadlines and memory beyond the limit are failures of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrapKind {
    /// The component executed `unreachable`, as a panic does.
    Unreachable,
    /// The call stack is exhausted.
    StackOverflow,
    /// An access beyond the end of a memory, of a table or of an array.
    OutOfBounds,
    /// An indirect call of a function that does not exist or has another type.
    IndirectCall,
    /// An integer overflow, a division by zero, or a conversion to an integer that cannot represent the number.
    Arithmetic,
    /// Any other trap, or an instance that could not be created.
    Other,
}

/// The traps of the engine, except those of the kind `Other`. The list of the engine may grow, so it is not matched.
const KINDS: [(Trap, TrapKind); 10] = [
    (Trap::UnreachableCodeReached, TrapKind::Unreachable),
    (Trap::StackOverflow, TrapKind::StackOverflow),
    (Trap::MemoryOutOfBounds, TrapKind::OutOfBounds),
    (Trap::TableOutOfBounds, TrapKind::OutOfBounds),
    (Trap::ArrayOutOfBounds, TrapKind::OutOfBounds),
    (Trap::IndirectCallToNull, TrapKind::IndirectCall),
    (Trap::BadSignature, TrapKind::IndirectCall),
    (Trap::IntegerOverflow, TrapKind::Arithmetic),
    (Trap::IntegerDivisionByZero, TrapKind::Arithmetic),
    (Trap::BadConversionToInteger, TrapKind::Arithmetic),
];

impl TrapKind {
    /// All kinds.
    pub const ALL: [TrapKind; 6] = [
        TrapKind::Unreachable,
        TrapKind::StackOverflow,
        TrapKind::OutOfBounds,
        TrapKind::IndirectCall,
        TrapKind::Arithmetic,
        TrapKind::Other,
    ];

    /// The kind of the trap that ended a call.
    pub(crate) fn of(error: &Error) -> Self {
        let trap = error.downcast_ref::<Trap>();
        KINDS.iter().find(|(known, _)| Some(known) == trap).map_or(TrapKind::Other, |(_, kind)| *kind)
    }

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TrapKind::Unreachable => "unreachable",
            TrapKind::StackOverflow => "stack-overflow",
            TrapKind::OutOfBounds => "out-of-bounds",
            TrapKind::IndirectCall => "indirect-call",
            TrapKind::Arithmetic => "arithmetic",
            TrapKind::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_comes_from_the_trap_code() {
        for (error, kind) in [
            (Error::from(Trap::UnreachableCodeReached), TrapKind::Unreachable),
            (Error::from(Trap::IntegerDivisionByZero), TrapKind::Arithmetic),
            (Error::from(Trap::NullReference), TrapKind::Other),
            (Error::msg("wasm trap: call stack exhausted"), TrapKind::Other),
        ] {
            assert_eq!(TrapKind::of(&error), kind, "{error}");
        }
    }

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = TrapKind::ALL.map(TrapKind::as_str).into();
        assert_eq!(names.len(), TrapKind::ALL.len());
    }
}
