//! Looks at the bytes of an HTTP/1.1 connection before the HTTP library does, and judges the framing of each request.
//!
//! The library accepts requests whose length is ambiguous, and removes the evidence: of `Transfer-Encoding` and
//! `Content-Length` it keeps one. Two programs that choose differently see different requests on one connection, which
//! is request smuggling. The gateway refuses such requests.

use std::collections::VecDeque;
use std::sync::Arc;

use paddock_kube::budget::{Budget, Bytes};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

/// The verdict about the framing of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Clear,
    Ambiguous(&'static str),
}

/// The verdicts of one connection, in the order of its requests. Clones are handles on the same verdicts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    verdicts: VecDeque<Verdict>,
    head_since: Option<Instant>,
    upgraded: bool,
    too_many_large_heads: bool,
}

impl Verdicts {
    /// The verdict about the next request. A request that was not seen is not served.
    pub(crate) fn next(&self) -> Verdict {
        self.0.lock().verdicts.pop_front().unwrap_or(Verdict::Ambiguous("The request could not be delimited."))
    }

    /// The time of the first byte of a head that is not complete.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        let shared = self.0.lock();
        shared.head_since.filter(|_| !shared.upgraded)
    }

    /// The bytes behind the last request are those of another protocol.
    pub(crate) fn upgraded(&self) {
        self.0.lock().upgraded = true;
    }

    /// Whether the head was refused because too many large heads are not complete.
    pub(crate) fn too_many_large_heads(&self) -> bool {
        self.0.lock().too_many_large_heads
    }

    fn head_begins(&self) {
        self.0.lock().head_since = Some(Instant::now());
    }

    fn head_ends(&self, verdict: Option<Verdict>) {
        let mut shared = self.0.lock();
        shared.head_since = None;
        shared.verdicts.extend(verdict);
    }
}

/// The bytes that are kept of one line. The names of the headers that are judged, and their values, are shorter.
const KEPT: usize = 64;

/// The scanner of one connection. It keeps no head, because the library does already.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    line: Line,
    head: Head,
    limit: usize,
    verdicts: Verdicts,
    large_heads: Budget<()>,
    /// The bytes of a large head, until it is complete.
    large: Option<Bytes<()>>,
}

/// A line that is being read: its begin, and what has to be known about the rest.
#[derive(Clone, Copy, Debug)]
struct Line {
    begin: [u8; KEPT],
    bytes: usize,
    last: u8,
    /// Whether it contains CR or NUL in front of its end.
    control: bool,
    /// Whether it contains `#`.
    fragment: bool,
    /// Whether a blank comes before the first colon, and whether there is a colon.
    blank_in_name: bool,
    colon: bool,
}

impl Line {
    const EMPTY: Line = Line {
        begin: [0; KEPT],
        bytes: 0,
        last: 0,
        control: false,
        fragment: false,
        blank_in_name: false,
        colon: false,
    };

    fn see(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // CR is part of the end only in front of LF.
            self.control |= *byte == 0 || (self.bytes > 0 && self.last == b'\r' && *byte != b'\n');
            self.fragment |= *byte == b'#';
            self.colon |= *byte == b':';
            self.blank_in_name |= !self.colon && byte.is_ascii_whitespace() && !matches!(byte, b'\r' | b'\n');
            if let Some(kept) = self.begin.get_mut(self.bytes) {
                *kept = *byte;
            }
            self.bytes += 1;
            if *byte != b'\n' {
                self.last = *byte;
            }
        }
    }

    /// The begin of the line without its end, and whether that is the whole line. `None` if it does not end with CR LF.
    fn text(&self) -> Option<(&[u8], bool)> {
        let length = self.bytes.checked_sub(2).filter(|_| self.last == b'\r')?;
        Some((self.begin.get(..length.min(KEPT)).unwrap_or_default(), length <= KEPT))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    Chunk {
        left: u64,
    },
    ChunkEnd,
    Trailers,
    /// Nothing more is judged: the connection was upgraded, or it ends after an ambiguous request.
    Stopped,
    /// There is no memory for the head.
    Refused,
}

/// The facts about the head that is being read.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    lines: usize,
    lengths: usize,
    length: Option<u64>,
    encodings: usize,
    chunked: bool,
    hosts: usize,
    upgrade: bool,
    fault: Option<&'static str>,
}

impl Scanner {
    pub(crate) fn new(limit: usize, verdicts: Verdicts, large_heads: Budget<()>) -> Self {
        let (line, head) = (Line::EMPTY, Head::default());
        Self { state: State::Head, line, head, limit, verdicts, large_heads, large: None }
    }

    /// Whether the connection must end at once, because it would need memory that other connections use.
    pub(crate) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Looks at the next bytes of the connection.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Stopped | State::Refused => return,
                State::Body { left } => {
                    let rest = skip(bytes, left);
                    let left = left.saturating_sub((bytes.len() - rest.len()) as u64);
                    self.state = if left == 0 { State::Head } else { State::Body { left } };
                    rest
                }
                State::Chunk { left } => {
                    let rest = skip(bytes, left);
                    let left = left.saturating_sub((bytes.len() - rest.len()) as u64);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk { left } };
                    rest
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => self.line(bytes),
            };
        }
    }

    /// Reads a part of a line.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.state == State::Head && self.head.bytes == 0 {
            self.verdicts.head_begins();
        }
        let end = bytes.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.line.see(line);
        self.head.bytes += line.len();
        if self.head.bytes > self.limit {
            // The library refuses a head of this size itself.
            self.stop(Verdict::Ambiguous("The head of the request is too large."));
        } else if end.is_some() {
            let line = std::mem::replace(&mut self.line, Line::EMPTY);
            self.whole_line(&line);
        }
        self.pay();
        rest
    }

    /// Takes the memory of a large head. The library's buffer may have twice the bytes of the largest head.
    fn pay(&mut self) {
        if self.state != State::Head || self.head.bytes <= limits::LARGE_HEAD {
            self.large = None;
        } else if self.large.is_none() {
            self.large = self.large_heads.take(&(), self.limit.saturating_mul(2));
            if self.large.is_none() {
                self.verdicts.0.lock().too_many_large_heads = true;
                self.stop(Verdict::Ambiguous("Too many large heads are not complete."));
                self.state = State::Refused;
            }
        }
    }

    fn whole_line(&mut self, line: &Line) {
        let Some((text, whole)) = line.text() else {
            return self.stop(Verdict::Ambiguous("A line of the request does not end with CR LF."));
        };
        match self.state {
            State::Head if self.head.lines == 0 && text.is_empty() => {
                // Clients may send an empty line between two requests.
                self.head = Head::default();
                self.verdicts.head_ends(None);
            }
            State::Head if text.is_empty() => self.end_of_head(),
            State::Head => self.head.line(line, text, whole),
            State::ChunkSize => match chunk_size(text) {
                Some(0) => self.state = State::Trailers,
                Some(left) => self.state = State::Chunk { left },
                None => self.stop(Verdict::Ambiguous("The size of a chunk is not valid.")),
            },
            State::ChunkEnd if text.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => self.stop(Verdict::Ambiguous("A chunk is longer than its size.")),
            State::Trailers if text.is_empty() => self.state = State::Head,
            State::Trailers | State::Body { .. } | State::Chunk { .. } | State::Stopped | State::Refused => {}
        }
        if self.state != State::Head {
            self.head.bytes = 0;
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        let fault = head.fault.or_else(|| {
            if head.encodings > 0 && head.lengths > 0 {
                Some("The request has both Transfer-Encoding and Content-Length.")
            } else if head.encodings > 1 || (head.encodings == 1 && !head.chunked) {
                Some("Transfer-Encoding must be chunked.")
            } else if head.lengths > 1 {
                Some("The request has several Content-Length headers.")
            } else if head.hosts > 1 {
                Some("The request has several Host headers.")
            } else if head.lengths == 1 && head.length.is_none() {
                Some("Content-Length must be a number.")
            } else {
                None
            }
        });
        if let Some(fault) = fault {
            return self.stop(Verdict::Ambiguous(fault));
        }
        self.verdicts.head_ends(Some(Verdict::Clear));
        self.state = if head.encodings > 0 {
            State::ChunkSize
        } else {
            match head.length {
                // Bytes behind the head of an upgrade belong to the other protocol, if the Sandbox agrees to it. If it
                // does not, the gateway closes the connection.
                None | Some(0) if head.upgrade => State::Stopped,
                None | Some(0) => State::Head,
                Some(left) => State::Body { left },
            }
        };
    }

    fn stop(&mut self, verdict: Verdict) {
        self.verdicts.head_ends(Some(verdict));
        self.state = State::Stopped;
    }
}

impl Head {
    /// Judges a line. `begin` is its begin, and `whole` says whether it is the whole line.
    fn line(&mut self, line: &Line, begin: &[u8], whole: bool) {
        self.lines += 1;
        if line.control {
            self.fault = Some("The head of the request contains a control character.");
        }
        if self.lines == 1 {
            if line.fragment {
                self.fault = Some("The path of the request contains a fragment.");
            }
            return;
        }
        let mut parts = begin.splitn(2, |b| *b == b':');
        let name = parts.next().unwrap_or_default();
        // A value that is too long to be kept is no length and no encoding.
        let value = parts.next().filter(|_| whole).unwrap_or_default().trim_ascii();
        if name.is_empty() || line.blank_in_name {
            self.fault = Some("The name of a header is not valid.");
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = number(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
    }
}

fn skip(bytes: &[u8], count: u64) -> &[u8] {
    bytes.get(usize::try_from(count).unwrap_or(usize::MAX)..).unwrap_or_default()
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The size of a chunk. Extensions are ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default();
    let plain = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts about the bytes, which are the same in pieces of any size.
    fn verdicts(bytes: &str) -> Vec<Verdict> {
        let all = |size: usize| {
            let verdicts = Verdicts::default();
            let mut scanner = Scanner::new(1000, verdicts.clone(), Budget::new(0));
            for piece in bytes.as_bytes().chunks(size) {
                scanner.see(piece);
            }
            let mut shared = verdicts.0.lock();
            std::mem::take(&mut shared.verdicts).into_iter().collect::<Vec<_>>()
        };
        let whole = all(usize::MAX);
        for size in 1..bytes.len().min(40) {
            assert_eq!(all(size), whole, "{size}");
        }
        whole
    }

    #[test]
    fn clear_requests_are_counted() {
        for (bytes, count) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n", 2),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n4;x=y\r\nGET \r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                2,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            ("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\u{1}\u{2}\n\n", 1),
        ] {
            assert_eq!(verdicts(bytes), vec![Verdict::Clear; count], "{bytes}");
        }
    }

    #[test]
    fn ambiguous_requests_are_recognised() {
        for head in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            "content-length: 4\r\nCONTENT-LENGTH: 4",
            "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: 4, 4",
            "Content-Length: +4",
            "Content-Length: 0x4",
            "Content-Length:",
            "Content-Length: 99999999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked                                                                x",
            "Content-Length: 4                                                                         x",
            "A-name-that-is-longer-than-what-the-scanner-keeps-of-one-line-of-a-head : y",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding : chunked",
            " Transfer-Encoding: chunked",
            "X: y\r\n Transfer-Encoding: chunked",
            "X: y\n Transfer-Encoding: chunked",
            "X: y\nTransfer-Encoding: chunked",
            "X: y\rTransfer-Encoding: chunked",
            "X: \0",
            "Host: a\r\nHost: b",
            ": y",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\n{head}\r\n\r\n0\r\n\r\n");
            let found = verdicts(&bytes);
            assert!(matches!(found.as_slice(), [Verdict::Ambiguous(_)]), "{head}: {found:?}");
        }
        let fragment = verdicts("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(fragment, [Verdict::Ambiguous("The path of the request contains a fragment.")]);
    }

    #[test]
    fn a_faulty_chunk_ends_the_connection() {
        for chunks in
            ["4\r\nabcde\r\n0\r\n\r\n", "x\r\n", "-1\r\n", " 4\r\nabcd\r\n", "4\nabcd\r\n", "11111111111111111\r\n"]
        {
            let found = verdicts(&format!(
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET / HTTP/1.1\r\n\r\n"
            ));
            assert!(matches!(found.as_slice(), [Verdict::Clear, Verdict::Ambiguous(_)]), "{chunks}: {found:?}");
        }
    }

    #[test]
    fn the_memory_of_a_head_is_bounded() {
        let verdicts = Verdicts::default();
        let mut scanner = Scanner::new(1000, verdicts.clone(), Budget::new(0));
        for _ in 0..1000 {
            scanner.see(b"X: 0123456789\r\n");
        }
        assert!(matches!(verdicts.next(), Verdict::Ambiguous(_)));
        assert!(size_of::<Scanner>() < 400, "{}", size_of::<Scanner>());
    }

    #[test]
    fn large_heads_share_a_budget_until_they_are_complete() {
        let head = 64 * 1024;
        let large_heads = Budget::new(3 * 2 * head);
        let scanner = || Scanner::new(head, Verdicts::default(), large_heads.clone());
        let begin = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 20 * 1024]].concat();
        let mut open: Vec<Scanner> = Vec::new();
        for _ in 0..10 {
            let mut next = scanner();
            next.see(&begin);
            open.push(next);
        }
        let refused = open.iter().filter(|scanner| scanner.is_refused()).count();
        assert!((7..=8).contains(&refused), "{refused}");
        assert!(open[9].verdicts.too_many_large_heads());
        // A complete head gives its bytes back, and so does a connection that ends.
        open[0].see(b"\r\n\r\n");
        assert_eq!(open[0].verdicts.next(), Verdict::Clear);
        let mut next = scanner();
        next.see(&begin);
        assert!(!next.is_refused());
        drop((open, next));
        assert!(large_heads.take(&(), 5 * head).is_some());
    }

    #[test]
    fn a_request_that_was_not_seen_is_not_served() {
        assert!(matches!(Verdicts::default().next(), Verdict::Ambiguous(_)));
    }
}
