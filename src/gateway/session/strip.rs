//! Reads and removes one parameter of a query, or one cookie. The rest stays as it is, and in its order.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use http::uri::PathAndQuery;

use crate::percent;

/// The value of a parameter, decoded.
pub(super) fn query_value(path: &PathAndQuery, name: &str) -> Option<String> {
    let query = path.query()?;
    let value = query.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| decoded(key) == name)?.1;
    Some(decoded(value))
}

/// The path and query without a parameter.
pub(super) fn without_parameter(path: &PathAndQuery, name: &str) -> PathAndQuery {
    let Some(query) = path.query() else { return path.clone() };
    let is = |part: &&str| decoded(part.split('=').next().unwrap_or_default()) == name;
    if !query.split('&').any(|part| is(&part)) {
        return path.clone();
    }
    let kept: Vec<&str> = query.split('&').filter(|part| !is(part)).collect();
    let text = if kept.is_empty() { path.path().to_owned() } else { format!("{}?{}", path.path(), kept.join("&")) };
    // A part of a valid text is valid.
    PathAndQuery::try_from(text).unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// The text of a query without escapes. A plus sign stands for a blank there.
fn decoded(text: &str) -> String {
    percent::decoded(&text.replace('+', " "))
}

/// The values of all cookies of a name, in their order. Another page may have set one with the same name, and a cookie of
/// another name may have any bytes.
pub(super) fn cookie_values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(std::str::from_utf8(value).unwrap_or_default().trim_matches('"'))
    })
}

/// Removes a cookie, in each of its occurrences.
pub(super) fn without_cookie(headers: &mut HeaderMap, name: &str) {
    let is = |pair: &[u8]| {
        let key = pair.split(|b| *b == b'=').next().unwrap_or_default();
        key.trim_ascii() == name.as_bytes()
    };
    let values: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    if !values.iter().any(|value| value.as_bytes().split(|b| *b == b';').any(is)) {
        return;
    }
    headers.remove(COOKIE);
    for value in values {
        let kept: Vec<&[u8]> = value.as_bytes().split(|b| *b == b';').filter(|pair| !is(pair)).collect();
        let joined = kept.join(&b";"[..]);
        let joined = joined.trim_ascii();
        if !joined.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(joined)
        {
            headers.append(COOKIE, value);
        }
    }
}
