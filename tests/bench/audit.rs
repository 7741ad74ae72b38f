//! The writes to the API server, from its audit log: the counts by user, verb and resource, and the number of refused
//! writes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// Events are only reports, so they are counted separately.
const EVENTS: &str = "events";

/// The writes in one namespace.
pub(crate) struct AuditLog {
    path: PathBuf,
    namespace: String,
    names: Names,
    read: u64,
    writes: Vec<Write>,
}

/// The names of users in the figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// The names in the figures by user name.
    pub(crate) users: BTreeMap<String, String>,
}

/// One attempted write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Write {
    who: String,
    verb: String,
    /// The resource, with the subresource after a slash.
    what: String,
    name: String,
    at: Timestamp,
    /// The time of the reply.
    replied: Timestamp,
    code: u16,
}

/// The counts of one kind of write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All attempts.
    pub(crate) attempts: usize,
    /// The attempts that were refused for any reason.
    pub(crate) refused: usize,
    /// The attempts that were refused with a conflict.
    pub(crate) conflicts: usize,
}

/// The counts by user, verb and resource.
pub(crate) type Counts = BTreeMap<(String, String, String), Count>;

/// A write to look for.
pub(crate) struct Wanted<'a> {
    /// The name of the user in the figures.
    pub(crate) who: &'a str,
    /// The verb and the resource, such as `create pods/binding`.
    pub(crate) what: &'a str,
    /// The name of the object.
    pub(crate) name: &'a str,
    /// The time of the earliest one that counts.
    pub(crate) since: Timestamp,
}

/// A claim whose writes are counted.
pub(crate) struct Claimed<'a> {
    /// The claim's name.
    pub(crate) claim: &'a str,
    /// The sandbox that it got.
    pub(crate) sandbox: &'a str,
    /// The time at which it was requested.
    pub(crate) asked: Timestamp,
    /// The time at which the client's watch delivered it as Ready.
    pub(crate) ready: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Response>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    code: u16,
}

impl Names {
    fn of(&self, user: &str) -> String {
        if let Some(name) = self.users.get(user) {
            return name.clone();
        }
        let known = match user {
            "paddock:kwok" => "kwok",
            "paddock:volume-provisioner" => "volume-provisioner",
            "system:kube-scheduler" => "scheduler",
            "system:kube-controller-manager" => "controller-manager",
            // The controllers of the controller manager, each with its own ServiceAccount.
            _ if user.starts_with("system:serviceaccount:kube-system:") => "controller-manager",
            other => other,
        };
        known.to_owned()
    }
}

impl Write {
    fn read(line: &str, namespace: &str, names: &Names) -> Option<Self> {
        // Most lines are reads, or belong to other namespaces.
        if !line.contains(namespace) {
            return None;
        }
        let line: Line = serde_json::from_str(line).ok()?;
        let object = line.object_ref?;
        let writes = matches!(line.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        if !writes || object.namespace != namespace {
            return None;
        }
        let slash = if object.subresource.is_empty() { "" } else { "/" };
        Some(Self {
            who: names.of(&line.user.username),
            verb: line.verb,
            what: format!("{}{slash}{}", object.resource, object.subresource),
            name: object.name,
            at: line.request_received_timestamp,
            replied: line.stage_timestamp,
            code: line.response_status.map_or(0, |status| status.code),
        })
    }

    fn count(&self) -> Count {
        Count {
            attempts: 1,
            refused: usize::from(!(200..300).contains(&self.code)),
            conflicts: usize::from(self.code == 409),
        }
    }

    fn is_of(&self, resource: &str) -> bool {
        self.what.split('/').next() == Some(resource)
    }
}

impl AuditLog {
    /// The writes in `namespace`, from the beginning of the log.
    pub(crate) fn new(path: PathBuf, namespace: &str, names: Names) -> Self {
        Self { path, namespace: namespace.to_owned(), names, read: 0, writes: Vec::new() }
    }

    /// Reads the new lines. Returns the number of new writes without Events.
    pub(crate) fn refresh(&mut self) -> Result<usize> {
        let mut file = File::open(&self.path).context("opening the audit log")?;
        file.seek(SeekFrom::Start(self.read)).context("reading the audit log")?;
        let mut new = Vec::new();
        file.read_to_end(&mut new).context("reading the audit log")?;
        // The last line may be incomplete. It is read the next time.
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        let text = String::from_utf8_lossy(&new[..whole]);
        let before = self.writes.len();
        self.writes.extend(text.lines().filter_map(|line| Write::read(line, &self.namespace, &self.names)));
        Ok(self.writes[before..].iter().filter(|write| !write.is_of(EVENTS)).count())
    }

    /// All writes that were received between two times.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp) -> Counts {
        count(self.writes.iter().filter(|write| (from..to).contains(&write.at)))
    }

    /// The times at which the API server received the first successful write of this kind, and replied to it.
    pub(crate) fn first(&self, wanted: &Wanted<'_>) -> Option<(Timestamp, Timestamp)> {
        let Wanted { who, what, name, since } = *wanted;
        let is_it = |write: &&Write| {
            write.who == who
                && write.name == name
                && write.at >= since
                && (200..300).contains(&write.code)
                && what.split_once(' ') == Some((&write.verb, &write.what))
        };
        self.writes.iter().filter(is_it).map(|write| (write.at, write.replied)).min()
    }

    /// The writes of `who` to these claims and their sandboxes, until the write that made each claim Ready.
    pub(crate) fn until_ready(&self, who: &str, claims: &[Claimed<'_>]) -> Counts {
        let by_claim: HashMap<&str, usize> = claims.iter().enumerate().map(|(n, c)| (c.claim, n)).collect();
        let by_sandbox: HashMap<&str, usize> = claims.iter().enumerate().map(|(n, c)| (c.sandbox, n)).collect();
        let ours: Vec<(&Write, usize)> = self
            .writes
            .iter()
            .filter(|write| write.who == who)
            .filter_map(|write| {
                let number = match () {
                    () if write.is_of("sandboxclaims") => by_claim.get(write.name.as_str()),
                    () if write.is_of("sandboxes") => by_sandbox.get(write.name.as_str()),
                    () => None,
                };
                number.map(|number| (write, *number))
            })
            .collect();
        // The last write to the claim that was received before the client's watch delivered Ready is the one that made
        // it Ready.
        let mut made_ready: Vec<Option<Timestamp>> = vec![None; claims.len()];
        for (write, number) in ours.iter().filter(|(write, _)| write.is_of("sandboxclaims")) {
            if write.at <= claims[*number].ready {
                made_ready[*number] = made_ready[*number].max(Some(write.at));
            }
        }
        count(ours.into_iter().filter_map(|(write, number)| {
            let asked = claims[number].asked;
            made_ready[number].filter(|ready| (asked..=*ready).contains(&write.at)).map(|_| write)
        }))
    }
}

fn count<'a>(writes: impl Iterator<Item = &'a Write>) -> Counts {
    let mut counts = Counts::new();
    for write in writes {
        let key = (write.who.clone(), write.verb.clone(), write.what.clone());
        let (sum, one) = (counts.entry(key).or_default(), write.count());
        sum.attempts += one.attempts;
        sum.refused += one.refused;
        sum.conflicts += one.conflicts;
    }
    counts
}

/// The counts of one user: without Events, and of Events alone.
pub(crate) fn of(counts: &Counts, who: &str) -> (Count, Count) {
    let (mut writes, mut events) = (Count::default(), Count::default());
    for ((_, _, what), count) in counts.iter().filter(|((by, _, _), _)| by == who) {
        let sum = if what == EVENTS { &mut events } else { &mut writes };
        sum.attempts += count.attempts;
        sum.refused += count.refused;
        sum.conflicts += count.conflicts;
    }
    (writes, events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ms: u32, user: &str, verb: &str, what: &str, name: &str, code: u16) -> String {
        let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
        format!(
            r#"{{"kind":"Event","verb":"{verb}","user":{{"username":"{user}","groups":["g"]}},"objectRef":{{"resource":"{resource}","subresource":"{sub}","namespace":"bench","name":"{name}"}},"responseStatus":{{"metadata":{{}},"code":{code}}},"requestReceivedTimestamp":"2026-01-01T00:00:00.{ms:03}000Z","stageTimestamp":"2026-01-01T00:00:00.{ms:03}900Z"}}"#
        )
    }

    fn at(ms: u32) -> Timestamp {
        format!("2026-01-01T00:00:00.{ms:03}Z").parse().unwrap()
    }

    fn log(lines: &[String]) -> AuditLog {
        let names = Names { users: BTreeMap::from([("op".to_owned(), "operator".to_owned())]) };
        let mut log = AuditLog::new(PathBuf::new(), "bench", names);
        log.writes = lines.iter().filter_map(|line| Write::read(line, "bench", &log.names)).collect();
        log
    }

    fn claim<'a>(claim: &'a str, sandbox: &'a str, asked: u32, ready: u32) -> Claimed<'a> {
        Claimed { claim, sandbox, asked: at(asked), ready: at(ready) }
    }

    #[test]
    fn until_ready_counts_the_claim_and_its_sandbox_up_to_the_write_that_made_it_ready() {
        let log = log(&[
            line(10, "op", "create", "sandboxes", "p-a", 201), // when the pool was filled
            line(100, "bench", "create", "sandboxclaims", "c-0", 201),
            line(110, "op", "patch", "sandboxclaims", "c-0", 200),
            line(111, "op", "patch", "sandboxes", "p-a", 409),
            line(112, "op", "patch", "sandboxes", "p-a", 200),
            line(115, "op", "patch", "pods", "p-a", 200), // Ready does not wait for it
            line(116, "op", "create", "sandboxes", "p-b", 201), // a refill
            line(120, "op", "patch", "sandboxclaims/status", "c-0", 200),
            line(124, "op", "patch", "sandboxes/status", "p-a", 200), // after the claim was Ready
            line(140, "op", "patch", "sandboxclaims/status", "c-0", 200), // when the claim was already Ready
        ]);
        let counts = log.until_ready("operator", &[claim("c-0", "p-a", 100, 130)]);
        let (writes, _) = of(&counts, "operator");
        assert_eq!(writes, Count { attempts: 4, refused: 1, conflicts: 1 }, "{counts:?}");
    }

    #[test]
    fn requests_between_two_moments_are_counted_by_author() {
        let log = log(&[
            line(1, "op", "patch", "sandboxes", "p-a", 200),
            line(2, "op", "create", "events", "e", 201),
            line(3, "system:serviceaccount:kube-system:generic-garbage-collector", "delete", "sandboxes", "p-a", 200),
            line(4, "system:kube-controller-manager", "delete", "sandboxes", "p-b", 404),
            line(5, "paddock:kwok", "patch", "pods/status", "p-a", 200),
            line(6, "op", "list", "sandboxes", "", 200),
            line(9, "op", "patch", "sandboxes", "p-a", 200),
        ]);
        let counts = log.between(at(1), at(9));
        let (writes, events) = of(&counts, "operator");
        assert_eq!((writes.attempts, events.attempts), (1, 1), "{counts:?}");
        assert_eq!(of(&counts, "controller-manager").0, Count { attempts: 2, refused: 1, conflicts: 0 });
        assert_eq!(of(&counts, "kwok").0.attempts, 1);
    }

    #[test]
    fn first_write_of_a_kind_is_the_first_successful_one_after_a_time() {
        let log = log(&[
            line(1, "op", "create", "pods", "a", 201),
            line(4, "op", "create", "pods", "a", 409),
            line(5, "op", "create", "pods", "b", 201),
            line(6, "system:kube-scheduler", "create", "pods/binding", "a", 201),
            line(7, "op", "create", "pods", "a", 201),
            line(9, "op", "create", "pods", "a", 201),
        ]);
        let first = |who, what| log.first(&Wanted { who, what, name: "a", since: at(3) });
        let (received, replied) = first("operator", "create pods").unwrap();
        assert_eq!((received, replied.duration_since(received).as_micros()), (at(7), 900));
        assert_eq!(first("scheduler", "create pods/binding").map(|(received, _)| received), Some(at(6)));
        for (who, what) in [("operator", "create pods/binding"), ("operator", "patch pods"), ("gateway", "create pods")]
        {
            assert_eq!(first(who, what), None, "{who} {what}");
        }
    }

    #[test]
    fn a_half_written_line_is_read_when_it_is_whole() {
        use std::io::Write as _;
        let path = std::env::temp_dir().join(format!("paddock-bench-audit-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let text = format!("{}\n", line(1, "op", "patch", "sandboxes", "p-a", 200));
        let (head, tail) = text.split_at(40);
        let mut log = AuditLog::new(path.clone(), "bench", Names::default());
        file.write_all(head.as_bytes()).unwrap();
        assert_eq!(log.refresh().unwrap(), 0);
        file.write_all(tail.as_bytes()).unwrap();
        assert_eq!(log.refresh().unwrap(), 1);
        assert_eq!(log.refresh().unwrap(), 0);
        std::fs::remove_file(path).unwrap();
    }
}
