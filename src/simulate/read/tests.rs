//! Tests of the layouts, and of the errors about them.

use super::*;

const ALL: fn() -> ReadOptions = || ReadOptions { only: vec![], scale: 1.0, days: None, seed: 1 };

fn claims(text: &str, options: &ReadOptions) -> Result<Trace, String> {
    read("file", text.as_bytes(), options).map_err(|error| error.to_string())
}

fn all(text: &str) -> Trace {
    claims(text, &ALL()).unwrap()
}

/// The arrivals in each minute.
fn minutes(trace: &Trace) -> Vec<usize> {
    (0..trace.length / 60_000).map(|at| trace.arrivals().iter().filter(|a| **a / 60_000 == at).count()).collect()
}

#[test]
fn arrivals_are_seconds_or_dates() {
    let seconds = all("time\n0.5\n\n61\r\n7\n");
    assert_eq!((seconds.arrivals(), seconds.length), (&[500, 7000, 61_000][..], 120_000));
    let dates = all("2026-03-04T10:00:30Z\n2026-03-04T12:01:00.25+02:00\n");
    assert_eq!((dates.arrivals(), dates.start.to_string()), (&[30_000, 60_250][..], "2026-03-04T10:00:00Z".to_owned()));
    assert_eq!(all("1772618430\n1772618460.25\n").arrivals(), dates.arrivals());
}

#[test]
fn azure_2019_has_the_invocations_of_each_minute() {
    let text = "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,2,0,1\no,b,g,timer,0,3,0\n";
    assert_eq!(minutes(&all(text)), [2, 3, 1]);
    let only = |name: &str| ReadOptions { only: vec![name.to_owned()], ..ALL() };
    assert_eq!(minutes(&claims(text, &only("b")).unwrap()), [0, 3, 0]);
    assert_eq!(minutes(&claims(text, &only("f")).unwrap()), [2, 0, 1]);
    assert!(claims(text, &only("x")).unwrap_err().contains("no line is about x"));
}

#[test]
fn azure_2021_has_the_end_of_each_invocation() {
    let trace = all("app,func,end_timestamp,duration\na,f,10.5,0.5\na,g,0.2,3.0\nb,h,70,0\n");
    assert_eq!((trace.arrivals(), trace.length), (&[0, 10_000, 70_000][..], 120_000));
}

#[test]
fn huawei_has_the_requests_of_each_function() {
    let by_minute = "day,time,0,1\n3,259200,2.0,\n3,259260,,1.0\n3,259380,NaN,4\n";
    assert_eq!(minutes(&all(by_minute)), [2, 1, 0, 4]);
    let only = ReadOptions { only: vec!["1".to_owned()], ..ALL() };
    assert_eq!(minutes(&claims(by_minute, &only).unwrap()), [0, 1, 0, 4]);
    let by_second = all("day,time,0\n0,0,1\n0,1,2\n");
    assert_eq!(by_second.arrivals().iter().map(|at| at / 1000).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn error_names_the_line_and_the_column() {
    let azure = "HashOwner,HashApp,HashFunction,Trigger,1,2\n";
    for (text, wanted) in [
        (String::new(), "the file is empty"),
        ("\n\n".to_owned(), "the file is empty"),
        ("time\n".to_owned(), "no line after the heading"),
        ("1\n2\nsoon\n".to_owned(), "line 3, column 1: \"soon\" is not a time"),
        ("1\n-2\n".to_owned(), "line 2, column 1: \"-2\" is not a time"),
        ("1\nNaN\n".to_owned(), "line 2, column 1"),
        (
            "1\n2026-03-04T10:00:30Z\n".to_owned(),
            "line 2, column 1: \"2026-03-04T10:00:30Z\" is not like the lines before",
        ),
        ("1,2\n".to_owned(), "line 1: it has 2 columns"),
        ("name,when\n".to_owned(), "line 1: it has 2 columns"),
        (format!("{azure}o,a,f,http,1\n"), "line 2: it has 5 columns, and the heading has 6"),
        (format!("{azure}o,a,f,http,1,x\n"), "line 2, column 6: \"x\" is not a number of requests"),
        (format!("{azure}o,a,f,http,1,1.5\n"), "line 2, column 6"),
        (format!("{azure}o,a,f,http,1,-1\n"), "line 2, column 6"),
        (azure.to_owned(), "no line after the heading"),
        ("HashOwner,HashApp,HashFunction,Trigger\n".to_owned(), "line 1, column 5"),
        ("HashOwner,HashApp,HashFunction,Trigger,1,3\n".to_owned(), "line 1, column 6: \"3\" is not the minute 2"),
        ("app,func,end_timestamp,duration\na,f,x,1\n".to_owned(), "line 2, column 3: \"x\" is not a time"),
        ("app,func,end_timestamp,duration\na,f,1,-1\n".to_owned(), "line 2, column 4: \"-1\" is not a duration"),
        ("day,time,0\n0,0,1\n0,0,1\n".to_owned(), "line 3, column 2: \"0\" is not later"),
        ("day,time,0\n0,0,1\n0,7,1\n".to_owned(), "the lines are 7 s apart"),
        ("day,time,0\n0,0,1\n0,60,1\n0,1e17,1\n".to_owned(), "line 4, column 2: \"1e17\" is not within ten years"),
        ("day,time,0\n0,0,1\n0,1e12,1\n".to_owned(), "line 3, column 2: \"1e12\" is not within ten years"),
        (
            "app,func,end_timestamp,duration\na,f,1e12,1\n".to_owned(),
            "line 2, column 3: \"1e12\" is not within ten years",
        ),
        ("0\n999999999\n".to_owned(), "more than ten years apart"),
        ("day,time,0\n0,0,many\n".to_owned(), "line 2, column 3: \"many\""),
    ] {
        let error = claims(&text, &ALL()).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    let error = read("file", &b"1\n\xff\n"[..], &ALL()).unwrap_err().to_string();
    assert!(error.starts_with("line 2: "), "{error}");
}

#[test]
fn scale_and_days_take_a_part() {
    let text = format!("day,time,0\n{}", (0..2880).map(|m| format!("0,{},10\n", m * 60)).collect::<String>());
    let half = claims(&text, &ReadOptions { scale: 0.5, ..ALL() }).unwrap();
    assert!(half.arrivals().len().abs_diff(14_400) < 500, "{}", half.arrivals().len());
    let day = claims(&text, &ReadOptions { days: Some(1), ..ALL() }).unwrap();
    assert_eq!((day.arrivals().len(), day.length), (14_400, 86_400_000));
    assert_eq!(claims(&text, &ALL()), claims(&text, &ALL()));
}

#[test]
fn too_many_claims_are_refused_before_they_fill_the_memory() {
    let text = "day,time,0\n0,0,4000000000\n";
    assert!(claims(text, &ALL()).unwrap_err().contains("--scale"));
    for head in ["", "app,func,end_timestamp,duration\n"] {
        let line = if head.is_empty() { "7\n" } else { "a,f,7,0\n" };
        let lines = format!("{head}{}", line.repeat(11));
        assert!(matches!(read_at_most(10, "file", lines.as_bytes(), &ALL()), Err(ReadError::TooMany(_))), "{head}");
        assert!(read_at_most(11, "file", lines.as_bytes(), &ALL()).is_ok(), "{head}");
        let late = format!("{lines}{}", line.replace('7', "90000").repeat(100));
        let day = ReadOptions { days: Some(1), ..ALL() };
        assert_eq!(read_at_most(11, "file", late.as_bytes(), &day).unwrap().arrivals().len(), 11, "{head}");
    }
}

#[test]
fn part_of_a_file_with_too_many_claims_is_read() {
    let huge = "day,time,0\n0,0,4000000000\n0,60,4000000000\n";
    let some = claims(huge, &ReadOptions { scale: 1e-6, ..ALL() }).unwrap();
    assert!(some.arrivals().len().abs_diff(8000) < 500, "{}", some.arrivals().len());
    let days = "day,time,0\n0,86340,5\n0,86400,4000000000\n0,172740,4000000000\n";
    assert!(claims(days, &ReadOptions { days: Some(1), ..ALL() }).is_err());
    let days = "day,time,0\n0,0,5\n0,60,0\n1,86400,4000000000\n";
    assert_eq!(claims(days, &ReadOptions { days: Some(1), ..ALL() }).unwrap().arrivals().len(), 5);
    let dates = "2026-03-04T10:00:30Z\n2026-03-05T10:00:00Z\n2026-03-04T09:59:30Z\n";
    assert_eq!(claims(dates, &ReadOptions { days: Some(1), ..ALL() }).unwrap().arrivals(), [30_000, 90_000]);
}
