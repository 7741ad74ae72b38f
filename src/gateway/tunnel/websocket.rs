//! The boundaries of WebSocket frames (RFC 6455), so that a close frame can be sent between two of them.

/// The status code of a close frame: the endpoint goes away.
const GOING_AWAY: u16 = 1001;
const REASON: &[u8] = b"the gateway restarts";
const CLOSE: u8 = 0x8;
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The sender of frames. Frames of clients are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

/// The frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    sender: Sender,
    header: Vec<u8>,
    /// The bytes of the payload that are missing.
    left: u64,
    closed: bool,
}

impl Frames {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, header: Vec::new(), left: 0, closed: false }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn between(&self) -> bool {
        self.header.is_empty() && self.left == 0
    }

    /// Looks at the next bytes.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// The bytes up to the end of the frame that is under way.
    pub(super) fn until_boundary<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            if self.between() {
                break;
            }
            used += self.step(rest);
        }
        bytes.get(..used).unwrap_or(bytes)
    }

    /// Uses some bytes of a header or of a payload, and returns their number.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let used = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= used as u64;
            return used;
        }
        self.header.extend(bytes.first());
        let needed = self.header_length();
        if needed == Some(self.header.len()) {
            self.left = self.payload_length();
            self.closed |= self.header.first().is_some_and(|first| first & 0x0f == CLOSE);
            self.header.clear();
        }
        1
    }

    /// The length of the header, when it is known.
    fn header_length(&self) -> Option<usize> {
        let second = *self.header.get(1)?;
        let extended = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        Some(2 + extended + if second & MASKED == 0 { 0 } else { 4 })
    }

    fn payload_length(&self) -> u64 {
        let short = self.header.get(1).map_or(0, |second| second & !MASKED);
        let extended = match short {
            126 => 2,
            127 => 8,
            other => return u64::from(other),
        };
        self.header.iter().skip(2).take(extended).fold(0, |length, byte| (length << 8) | u64::from(*byte))
    }

    /// A close frame, unless the sender has sent one already.
    pub(super) fn going_away(&mut self) -> Vec<u8> {
        if self.closed {
            return Vec::new();
        }
        self.closed = true;
        let mut payload = GOING_AWAY.to_be_bytes().to_vec();
        payload.extend_from_slice(REASON);
        let length = u8::try_from(payload.len()).unwrap_or(0);
        match self.sender {
            Sender::Server => [&[LAST | CLOSE, length][..], &payload].concat(),
            Sender::Client => {
                let mask = fastrand::u32(..).to_be_bytes();
                let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
                [&[LAST | CLOSE, MASKED | length][..], &mask, &masked].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![LAST | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    #[test]
    fn frames_end_where_the_standard_says() {
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 127, 65535, 65536, 100_000] {
                let frame = frame(2, length, masked);
                let mut frames = Frames::new(Sender::Client);
                for (at, byte) in frame.iter().enumerate() {
                    assert!(frames.between() == (at == 0), "{length} {at}");
                    frames.see(&[*byte]);
                }
                assert!(frames.between() && !frames.closed);
                let two = [frame.clone(), frame.clone()].concat();
                let mut frames = Frames::new(Sender::Client);
                frames.see(&two[..1]);
                assert_eq!(frames.until_boundary(&two[1..]).len(), frame.len() - 1);
                assert!(frames.until_boundary(&frame).is_empty());
            }
        }
    }

    #[test]
    fn a_close_frame_is_sent_once() {
        let mut frames = Frames::new(Sender::Server);
        frames.see(&frame(CLOSE, 2, false));
        assert!(frames.closed && frames.going_away().is_empty());
        let server = Frames::new(Sender::Server).going_away();
        assert_eq!((server[0], usize::from(server[1]), &server[2..4]), (0x88, server.len() - 2, &[0x03, 0xe9][..]));
        let client = Frames::new(Sender::Client).going_away();
        assert_eq!((client[0], client[1] & MASKED), (0x88, MASKED));
        assert_eq!((client[6] ^ client[2], client[7] ^ client[3]), (0x03, 0xe9));
    }
}
