//! Whether a Sandbox should run. Two fields say so, and clients of different versions write them.
//!
//! Clients of upstream's v1beta1 write `operatingMode`. Clients of v1alpha1 and `kubectl scale` write `replicas`. A
//! client writes the field that it knows and may drop the other one. So neither field is right by itself: the field
//! counts that differs from the last mode that the operator applied.

use crate::OperatingMode;

/// The mode that the two fields of a Sandbox ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeDecision {
    /// The mode to apply and to record in `status.mode`.
    pub mode: OperatingMode,
    /// The value to write to `spec.operatingMode`, so that both fields agree.
    pub write_operating_mode: Option<OperatingMode>,
    /// The value to write to `spec.replicas`, so that both fields agree.
    pub write_replicas: Option<i32>,
}

impl ModeDecision {
    /// Whether both fields agree already.
    #[must_use]
    pub fn in_step(self) -> bool {
        self.write_operating_mode.is_none() && self.write_replicas.is_none()
    }
}

/// Returns the mode that `spec.operatingMode` and `spec.replicas` ask for. `last_acted` is `status.mode`, the mode that
/// the operator applied last. Without one, the last mode is Running.
///
/// A field that is absent asks for no change. If the two fields disagree, the user changed the one that differs from
/// the last mode.
#[must_use]
pub fn desired_mode(
    operating_mode: Option<OperatingMode>,
    replicas: Option<OperatingMode>,
    last_acted: Option<OperatingMode>,
) -> ModeDecision {
    let last = last_acted.unwrap_or(OperatingMode::Running);
    let changed = [operating_mode, replicas].into_iter().flatten().find(|mode| *mode != last);
    let mode = changed.unwrap_or(last);
    ModeDecision {
        mode,
        write_operating_mode: (operating_mode != Some(mode)).then_some(mode),
        write_replicas: (replicas != Some(mode)).then(|| replicas_of(mode)),
    }
}

/// The value of `spec.replicas` for a mode: 1 or 0.
#[must_use]
pub fn replicas_of(mode: OperatingMode) -> i32 {
    match mode {
        OperatingMode::Running => 1,
        OperatingMode::Suspended => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::OperatingMode::{self, Running, Suspended};

    use super::{ModeDecision, desired_mode, replicas_of};

    const R: Option<OperatingMode> = Some(Running);
    const S: Option<OperatingMode> = Some(Suspended);

    #[test]
    fn the_field_that_somebody_changed_wins() {
        for (what, mode, replicas, last, expected) in [
            ("nothing said, never acted: Running", None, None, None, Running),
            ("created with operatingMode alone", S, None, None, Suspended),
            ("created with replicas alone", None, S, None, Suspended),
            ("created with both at odds: not the default", R, S, None, Suspended),
            ("kubectl scale to 0", R, S, R, Suspended),
            ("kubectl scale to 1", S, R, S, Running),
            ("operatingMode set to Suspended", S, R, R, Suspended),
            ("operatingMode set to Running", R, S, S, Running),
            ("an update that drops replicas while suspended", S, None, S, Suspended),
            ("an update that drops replicas while running", R, None, R, Running),
            ("an update that drops replicas and resumes", R, None, S, Running),
            ("an update that drops operatingMode", None, S, S, Suspended),
            ("an update that drops both is no change", None, None, S, Suspended),
            ("both changed together", S, S, R, Suspended),
            ("both changed together before the first change was acted on", R, R, S, Running),
        ] {
            assert_eq!(desired_mode(mode, replicas, last).mode, expected, "{what}");
        }
    }

    #[test]
    fn writing_what_is_asked_for_brings_both_in_step_and_changes_nothing() {
        let choices = [None, R, S];
        for mode in choices {
            for replicas in choices {
                for last in choices {
                    let first = desired_mode(mode, replicas, last);
                    let mode_then = first.write_operating_mode.or(mode);
                    let replicas_then = match first.write_replicas {
                        Some(n) => Some(if n == 0 { Suspended } else { Running }),
                        None => replicas,
                    };
                    // The result is the same whether status.mode was written in between or not.
                    for last_then in [last, Some(first.mode)] {
                        let second = desired_mode(mode_then, replicas_then, last_then);
                        let expected =
                            ModeDecision { mode: first.mode, write_operating_mode: None, write_replicas: None };
                        assert_eq!(second, expected, "{mode:?} {replicas:?} {last:?} {last_then:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn replicas_are_one_or_none() {
        assert_eq!((replicas_of(Running), replicas_of(Suspended)), (1, 0));
    }
}
