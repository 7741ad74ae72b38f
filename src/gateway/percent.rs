//! The percent escapes of URLs.

/// Whether each percent sign begins an escape of two hexadecimal digits.
pub(crate) fn escapes_are_valid(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
            if !digit(bytes.next()) || !digit(bytes.next()) {
                return false;
            }
        }
    }
    true
}

/// The text without its escapes. A percent sign that begins none stays. A result that is no UTF-8 has U+FFFD in it.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
