//! Tests of the grammar and the times of schedules.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use paddock_api::WakeSchedule;

use super::{Schedule, parse_schedule};
use crate::model::error::{Errors, FieldErrors};
use crate::model::parse_sandbox;

fn parse(cron: &str, zone: Option<&str>) -> Result<Schedule, String> {
    let mut errors = Errors::default();
    let written = WakeSchedule { cron: cron.to_owned(), time_zone: zone.map(str::to_owned) };
    let parsed = parse_schedule(Some(&written), &mut errors);
    errors.into_result(parsed).map_err(|errors| errors.to_string())
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// So many times of a schedule after a time, in UTC.
fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = parse(cron, Some(zone)).unwrap();
    let next = |after: &Timestamp| schedule.next(*after);
    std::iter::successors(next(&at(after)), next).take(count).map(|at| at.to_string()).collect()
}

#[test]
fn times_are_those_of_a_cronjob() {
    let cases = include_str!("cronjob.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for case in cases {
        let [cron, zone, after, expected] = *case.split('|').collect::<Vec<_>>().as_slice() else { panic!("{case}") };
        let expected: Vec<String> = expected.split(' ').map(|time| time.replace('Z', ":00Z")).collect();
        assert_eq!(times(cron, zone, after, 3), expected, "{case}");
        count += 1;
    }
    assert!(count >= 200, "{count} cases");
}

#[test]
fn times_that_clocks_leave_out_do_not_come_and_repeated_ones_come_twice() {
    for (what, cron, zone, after, expected) in [
        (
            "a gap",
            "30 2 * * *",
            "Europe/Berlin",
            "2024-03-30T12:00:00Z",
            ["2024-04-01T00:30:00Z", "2024-04-02T00:30:00Z"],
        ),
        (
            "a fold",
            "30 2 * * *",
            "Europe/Berlin",
            "2024-10-26T12:00:00Z",
            ["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"],
        ),
        // Half an hour.
        (
            "a gap",
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2024-10-05T02:00:00Z",
            ["2024-10-06T15:15:00Z", "2024-10-07T15:15:00Z"],
        ),
        (
            "a fold",
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2024-04-06T02:00:00Z",
            ["2024-04-06T14:45:00Z", "2024-04-06T15:15:00Z"],
        ),
        // The clocks of these zones change at midnight, or a minute later.
        (
            "a gap",
            "0 0 * * *",
            "America/Sao_Paulo",
            "2017-10-14T12:00:00Z",
            ["2017-10-16T02:00:00Z", "2017-10-17T02:00:00Z"],
        ),
        (
            "a gap",
            "30 1 * * *",
            "America/St_Johns",
            "2010-03-13T12:00:00Z",
            ["2010-03-14T04:00:00Z", "2010-03-15T04:00:00Z"],
        ),
        // The 30th of December 2011 did not exist there.
        (
            "a day",
            "0 12 30 12 *",
            "Pacific/Apia",
            "2011-12-29T00:00:00Z",
            ["2012-12-29T22:00:00Z", "2013-12-29T22:00:00Z"],
        ),
    ] {
        assert_eq!(times(cron, zone, after, 2), expected, "{what}: {cron} {zone}");
    }
    // The date begins twice, because the clocks go back over midnight.
    let doubled = times("30 * 25 10 *", "Asia/Amman", "2013-10-24T20:00:00Z", 3);
    assert_eq!(doubled, ["2013-10-24T21:30:00Z", "2013-10-24T22:30:00Z", "2013-10-24T23:30:00Z"]);
}

#[test]
fn next_time_is_later_and_on_a_whole_minute_and_nothing_lies_between() {
    let zones =
        ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "America/St_Johns"];
    let crons = ["* * * * *", "*/7 0,1,2,23 * * *", "30 1 * * 0,6", "0 0 1 * *", "59 23 31 12 *", "15 */5 13 * 5"];
    for (zone, cron) in zones.iter().flat_map(|zone| crons.map(|cron| (*zone, cron))) {
        let schedule = parse(cron, Some(zone)).unwrap();
        // Every zone had several changes of its clocks in these years.
        let mut after = at("2010-01-01T00:00:07.5Z");
        for _ in 0..400 {
            let next = schedule.next(after).expect("a time");
            assert!(
                next > after && next.as_second() % 60 == 0 && next.subsec_nanosecond() == 0,
                "{cron} {zone} {next}"
            );
            assert!(schedule.has(next) && !schedule.has(next + SignedDuration::from_secs(1)), "{cron} {zone} {next}");
            assert_eq!(schedule.last(after, next), Some(next), "{cron} {zone} {after}");
            let before = next - SignedDuration::from_nanos(1);
            assert_eq!(
                (schedule.next(before), schedule.last(after, before)),
                (Some(next), None),
                "{cron} {zone} {next}"
            );
            after = next + SignedDuration::from_hours(37 * 24 / 5);
        }
    }
}

#[test]
fn last_time_of_a_span_is_found() {
    let daily = parse("0 9 * * *", Some("Europe/Berlin")).unwrap();
    for (after, until, expected) in [
        ("2024-06-01T00:00:00Z", "2024-06-01T06:59:59Z", None),
        ("2024-06-01T00:00:00Z", "2024-06-01T07:00:00Z", Some("2024-06-01T07:00:00Z")),
        ("2024-06-01T07:00:00Z", "2024-06-02T06:00:00Z", None),
        ("2014-06-01T00:00:00Z", "2024-06-02T00:00:00Z", Some("2024-06-01T07:00:00Z")),
        ("2024-06-01T08:00:00Z", "2024-06-01T07:00:00Z", None),
    ] {
        assert_eq!(daily.last(at(after), at(until)), expected.map(at), "{after} {until}");
    }
    let every_minute = parse("* * * * *", None).unwrap();
    let (after, until) = (at("2014-01-01T00:00:00Z"), at("2024-01-01T00:00:59.9Z"));
    assert_eq!(every_minute.last(after, until), Some(at("2024-01-01T00:00:00Z")));
}

#[test]
fn search_ends_at_the_ends_of_time() {
    for schedule in [parse("* * * * *", None), parse("0 0 29 2 *", Some("Asia/Tokyo"))] {
        let schedule = schedule.unwrap();
        assert!(schedule.next(Timestamp::MIN).is_some());
        for hours in [0, 1, 24 * 400, 24 * 366 * 10] {
            let _ = schedule.next(Timestamp::MAX - SignedDuration::from_hours(hours));
        }
        assert_eq!((schedule.next(Timestamp::MAX), schedule.has(Timestamp::MIN)), (None, false));
    }
    // 2100 has no leap day.
    let leap_day = parse("0 0 29 2 *", None).unwrap();
    assert_eq!(leap_day.next(at("2096-03-01T00:00:00Z")), Some(at("2104-02-29T00:00:00Z")));
}

#[test]
fn fields_that_a_cronjob_refuses_or_that_never_come_are_refused() {
    for (cron, problem) in [
        ("", "has 0 fields"),
        ("   ", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("0 9 * * 1-5 Europe/Berlin", "has 6 fields"),
        ("TZ=UTC 0 9 * * *", "has 6 fields"),
        ("@daily", "`0 0 * * *` means the same"),
        ("@HOURLY", "`0 * * * *` means the same"),
        ("@every 5m", "has 2 fields"),
        ("@reboot", "is a descriptor"),
        ("60 * * * *", "`60` for the minute, which must be 0 to 59"),
        ("-1 * * * *", "`` for the minute"),
        ("+5 * * * *", "`+5` for the minute"),
        ("005 * * * *", "`005` for the minute"),
        ("1, * * * *", "`` for the minute"),
        ("1-2-3 * * * *", "`2-3` for the minute"),
        ("*-5 * * * *", "`*` for the minute"),
        ("5-3 * * * *", "the range `5-3` for the minute"),
        ("*/0 * * * *", "the step `0` for the minute"),
        ("*/ * * * *", "the step `` for the minute"),
        ("*/256 * * * *", "the step `256`"),
        ("1/2/3 * * * *", "the step `2/3`"),
        ("H * * * *", "`H` for the minute"),
        ("* 24 * * *", "`24` for the hour, which must be 0 to 23"),
        ("* * 0 * *", "`0` for the day of the month, which must be 1 to 31"),
        ("* * L * *", "`L` for the day of the month"),
        ("* * 1W * *", "`1W` for the day of the month"),
        ("* * * 13 *", "`13` for the month, which must be 1 to 12 or jan to dec"),
        ("* * * january *", "`january` for the month"),
        ("* * * * 7", "`7` for the day of the week, which must be 0 to 6 or sun to sat"),
        ("* * * * 5#2", "`5#2` for the day of the week"),
        ("* * * * fri-mon", "the range `fri-mon`"),
        ("\u{661} * * * *", "for the minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 2,4,6,9,11 ?", "never comes"),
        ("0\n9 * * *", "has 4 fields"),
    ] {
        let error = parse(cron, None).unwrap_err();
        assert!(error.starts_with("spec.wakeSchedule.cron: ") && error.contains(problem), "{cron}: {error}");
        assert!(error.contains("such as 0 9 * * 1-5"), "{error} says what would be right");
    }
    for cron in ["0 0 30 2 1", "0 0 29 2 *", "0 0 31 2,3 *", " 0\t9 * * MON-Fri ", "*/90 * * * *", "0 0 30 2 */2"] {
        assert!(parse(cron, None).is_ok_and(|s| s.next(at("2024-01-01T00:00:00Z")).is_some()), "{cron}");
    }
}

#[test]
fn time_zones_are_known_without_files_and_others_are_refused() {
    for zone in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"] {
        assert!(parse("0 9 * * *", Some(zone)).is_ok(), "{zone}");
    }
    for (zone, problem) in [
        ("", "``"),
        ("Local", "`Local`"),
        ("Europe/Bonn", "`Europe/Bonn`"),
        ("europe/berlin", "did you mean `Europe/Berlin`?"),
        ("UTC+2", "`UTC+2`"),
        ("+02:00", "`+02:00`"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "`CET"),
        ("../../etc/localtime", "`../../"),
    ] {
        let error = parse("0 9 * * *", Some(zone)).unwrap_err();
        assert!(error.starts_with("spec.wakeSchedule.timeZone: ") && error.contains(problem), "{zone}: {error}");
    }
    // Both problems are reported at once.
    let both = parse("@daily", Some("Local")).unwrap_err();
    assert!(both.contains("spec.wakeSchedule.cron") && both.contains("spec.wakeSchedule.timeZone"), "{both}");
}

#[test]
fn meaning_is_that_of_the_fields_and_not_of_their_text() {
    let meaning = |cron: &str, zone: Option<&str>| parse(cron, zone).unwrap().meaning();
    let monday = meaning("0 9 * * 1", None);
    for (cron, zone) in [("0  9 ? * MON", None), ("00 09 * * mon", Some("UTC")), ("0 9 */1 1-12 1-1", Some("UTC"))] {
        assert_eq!(meaning(cron, zone), monday, "{cron}");
    }
    for (cron, zone) in
        [("0 9 * * 2", None), ("1 9 * * 1", None), ("0 9 1-31 * 1", None), ("0 9 * * 1", Some("Asia/Tokyo"))]
    {
        assert_ne!(meaning(cron, zone), monday, "{cron} {zone:?}");
    }
}

#[test]
fn schedule_that_is_not_valid_keeps_the_rest_of_a_sandbox_in_force() {
    let sandbox = |change: serde_json::Value| {
        let mut spec = serde_json::json!({
            "podTemplate": { "spec": { "containers": [{ "name": "c" }] } },
            "shutdownTime": "2030-01-01T00:00:00Z", "wakeSchedule": { "cron": "0 25 * * *", "timeZone": "Mars" },
        });
        json_patch::merge(&mut spec, &change);
        let meta = ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() };
        parse_sandbox(&meta, &serde_json::from_value(spec).unwrap())
    };
    let model = sandbox(serde_json::json!({})).expect("a Sandbox");
    assert_eq!((model.schedule(), model.shutdown.at), (None, Some(at("2030-01-01T00:00:00Z"))));
    let fields = |errors: &FieldErrors| errors.as_slice().iter().map(|error| error.path.clone()).collect::<Vec<_>>();
    let of_schedule = ["spec.wakeSchedule.timeZone", "spec.wakeSchedule.cron"];
    assert_eq!(fields(model.schedule_errors().expect("errors")), of_schedule);
    // Beside another error, it is reported too.
    let errors = sandbox(serde_json::json!({ "shutdownTime": "soon" })).expect_err("a time that is none");
    assert_eq!(fields(&errors), [&["spec.shutdownTime"][..], &of_schedule].concat());
    let valid = sandbox(serde_json::json!({ "wakeSchedule": { "cron": "0 9 * * *", "timeZone": null } })).unwrap();
    assert!(valid.schedule().is_some() && valid.schedule_errors().is_none());
}
