//! Text that a plugin wrote, made fit for logs, events and status.

/// At most this many characters, without control characters: a plugin's words end up on terminals.
pub(crate) fn bounded(text: &str, chars: usize) -> String {
    let mut kept: String = text.chars().take(chars).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(chars).is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn short_text_stays() {
        assert_eq!(bounded("no nodes for gvisor", 64), "no nodes for gvisor");
        assert_eq!(bounded("éé", 2), "éé");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(bounded("ééé", 2), "é…");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(bounded("a\n\u{1b}[31mb", 64), "a  [31mb");
    }
}
