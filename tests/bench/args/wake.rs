//! The command line of `wake`.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Chart, Run};
use crate::objects;

#[derive(Clone, Debug, Args)]
pub(crate) struct WakeArgs {
    /// The number of wakes in each setting, one at a time.
    #[arg(value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=80))]
    pub(crate) wakes: u32,
    /// The number of wakes at once, under gVisor without a volume. 0 leaves them out.
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(0..=80))]
    pub(crate) storm: u32,
    /// A setting to measure. It may be repeated. By default, all are measured.
    #[arg(long, value_name = "SETTING")]
    pub(crate) setting: Vec<Setting>,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) chart: Chart,
}

/// The runtime of the Sandboxes, and whether they have a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Setting {
    /// runc, without a volume.
    Runc,
    /// runc, with a volume.
    RuncVolume,
    /// gVisor, without a volume.
    Gvisor,
    /// gVisor, with a volume.
    GvisorVolume,
}

impl WakeArgs {
    /// The settings to measure.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        if self.setting.is_empty() { Setting::value_variants().to_vec() } else { self.setting.clone() }
    }
}

impl Setting {
    /// The name in figures.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::RuncVolume => "runc, volume",
            Self::Gvisor => "gVisor",
            Self::GvisorVolume => "gVisor, volume",
        }
    }

    /// The beginning of the names of its Sandboxes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::RuncVolume => "runc-volume",
            Self::Gvisor => "gvisor",
            Self::GvisorVolume => "gvisor-volume",
        }
    }

    /// A Sandbox of this setting.
    pub(crate) fn sandbox(self, name: &str) -> Value {
        let (class, volume) = match self {
            Self::Runc => ("runc", false),
            Self::RuncVolume => ("runc", true),
            Self::Gvisor => ("gvisor", false),
            Self::GvisorVolume => ("gvisor", true),
        };
        objects::seed_sandbox(name, class, volume)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Benchmark, Cli};

    fn parse(args: &[&str]) -> Result<WakeArgs, String> {
        let args = ["bench", "wake"].iter().chain(args);
        match Cli::try_parse_from(args).map_err(|error| error.to_string())?.command {
            Benchmark::Wake(args) => Ok(args),
            Benchmark::Load(_) | Benchmark::Gateway(_) | Benchmark::GatewaySoak(_) => panic!("another benchmark"),
        }
    }

    #[test]
    fn every_setting_is_measured_unless_some_are_named() {
        let all = parse(&[]).unwrap();
        assert_eq!((all.wakes, all.storm, all.settings().len()), (20, 50, 4));
        let some = parse(&["30", "--setting", "gvisor-volume", "--storm", "0"]).unwrap();
        assert_eq!((some.wakes, some.storm, some.settings()), (30, 0, vec![Setting::GvisorVolume]));
        assert!(parse(&["--setting", "kata"]).unwrap_err().contains("runc-volume"));
    }

    #[test]
    fn sandboxes_of_a_setting_have_its_class_and_its_volume() {
        for setting in Setting::value_variants() {
            let sandbox = setting.sandbox("a");
            let (class, volumes) =
                (&sandbox["spec"]["runtimeClassName"], &sandbox["spec"]["template"]["spec"]["volumes"]);
            assert!(setting.name().starts_with(class.as_str().unwrap()), "{setting:?}");
            assert_eq!(setting.name().ends_with("-volume"), volumes.is_array(), "{setting:?}");
        }
    }
}
