//! Whether a Sandbox is to run: one answer from two fields that clients of different versions write.
//!
//! `operatingMode` is upstream's v1beta1, `replicas` its v1alpha1 and `kubectl scale`. A client writes the one it knows and
//! may drop the other, so neither is the truth by itself: what changed since the mode last acted on is.

use crate::api::OperatingMode;

/// What a Sandbox's mode fields ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeDecision {
    /// The mode to act on, and to record in `status.mode`.
    pub mode: OperatingMode,
    /// What to write to `spec.operatingMode` to bring both fields in step.
    pub write_operating_mode: Option<OperatingMode>,
    /// What to write to `spec.replicas` to bring both fields in step.
    pub write_replicas: Option<i32>,
}

impl ModeDecision {
    /// Whether both fields say the same already.
    #[must_use]
    pub fn in_step(self) -> bool {
        self.write_operating_mode.is_none() && self.write_replicas.is_none()
    }
}

/// The mode that `spec.operatingMode` and `spec.replicas` ask for, where `last_acted` is `status.mode`.
///
/// A field that is absent asks for no change, and before anything was acted on the mode is Running. Of two fields that
/// disagree, the one that differs from the mode last acted on is the one somebody changed.
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

/// `spec.replicas` of a mode.
#[must_use]
pub fn replicas_of(mode: OperatingMode) -> i32 {
    match mode {
        OperatingMode::Running => 1,
        OperatingMode::Suspended => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{ModeDecision, desired_mode, replicas_of};
    use crate::api::OperatingMode::{self, Running, Suspended};

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
                    // Whether or not status.mode was written in between.
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
