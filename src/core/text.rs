//! Makes text of plugins, users and API servers safe for logs, Events and statuses.

/// Truncates a text to `max_chars` characters. A truncated text ends with `…`. Each control character becomes a space,
/// because terminals show the text.
#[must_use]
pub fn truncate(text: &str, max_chars: usize) -> String {
    let mut kept: String = text.chars().take(max_chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max_chars).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// The longest text of somebody else that is kept, sent or logged, in bytes: the message of an API server, the note of an
/// Event, or the description of an invalid field. An API server accepts as much in an Event.
pub const MESSAGE_BYTES: usize = 1024;

/// Shortens a text to at most `max_bytes` bytes, and puts `…` in place of its middle. A message often quotes a value of a
/// user and then says what is allowed, so the end of a message matters as much as its beginning.
#[must_use]
pub fn elide(text: impl Into<String>, max_bytes: usize) -> String {
    const MARK: &str = "…";
    let text = text.into();
    if text.len() <= max_bytes {
        return text;
    }
    let half = max_bytes.saturating_sub(MARK.len()) / 2;
    let head = text.get(..text.floor_char_boundary(half)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - half)..).unwrap_or_default();
    [head, MARK, tail].concat()
}

#[cfg(test)]
mod tests {
    use super::{elide, truncate};

    #[test]
    fn short_text_stays() {
        assert_eq!(truncate("no nodes for gvisor", 64), "no nodes for gvisor");
        assert_eq!(truncate("éé", 2), "éé");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(truncate("ééé", 2), "é…");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(truncate("a\n\u{1b}[31mb", 64), "a  [31mb");
    }

    #[test]
    fn long_text_loses_its_middle_at_characters() {
        assert_eq!(elide("0123456789", 10), "0123456789");
        assert_eq!(elide("0123456789", 9), "012…789");
        assert_eq!(elide("ééééé", 9), "é…é");
        for max in 3..12 {
            assert!(elide("aéb…cdefgé", max).len() <= max, "{max}");
        }
    }
}
