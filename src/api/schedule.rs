//! The schedule that resumes a Sandbox.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The times at which a suspended sandbox resumes, as in a CronJob.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WakeSchedule {
    /// The times, in the five fields of a CronJob: minute, hour, day of the month, month and day of the week. For example,
    /// `0 9 * * 1-5` is 9:00 from Monday to Friday.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new(CRON).message(CRON_MESSAGE))]
    pub cron: String,
    /// The time zone of these times, by its name in the IANA database, such as Europe/Berlin. If absent, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(TIME_ZONE).message(TIME_ZONE_MESSAGE))]
    pub time_zone: Option<String>,
}

/// The CEL rule for the form of a schedule. The webhook checks the numbers and names.
const CRON: &str = r"self.matches('^[ \t]*[0-9A-Za-z*?,/-]+([ \t]+[0-9A-Za-z*?,/-]+){4}[ \t]*$')";

/// The message of the rule [`CRON`].
const CRON_MESSAGE: &str = "must have the five fields of a CronJob: minute, hour, day of the month, month, day of the week, such as 0 9 * * 1-5";

/// The CEL rule for the form of a time zone. The webhook looks up the name.
const TIME_ZONE: &str = "self.matches('^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$') && self.lowerAscii() != 'local'";

/// The message of the rule [`TIME_ZONE`].
const TIME_ZONE_MESSAGE: &str = "must be the name of a time zone in the IANA database, such as Europe/Berlin or UTC";
