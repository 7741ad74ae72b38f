//! Makes text of plugins and users safe for logs, Events and statuses.

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

#[cfg(test)]
mod tests {
    use super::truncate;

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
}
