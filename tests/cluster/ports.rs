//! Blocks of loopback ports, one for each cluster.
//!
//! They lie below the range from which systems take the ports of outgoing connections (32768 and up), so
//! only another listener can take one; our own clusters keep apart by a lock on the block.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::go_build::cache_folder;
use crate::{Error, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 20;

/// A block of ports, reserved for as long as this lives.
#[derive(Debug)]
pub(crate) struct Ports {
    base: u16,
    given: AtomicU16,
    _lock: File,
}

impl Ports {
    /// Takes a block whose ports are all free.
    pub(crate) fn reserve() -> Result<Self> {
        let folder = cache_folder()?.join("ports");
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        let blocks = (LAST - FIRST) / BLOCK;
        // Processes begin at different blocks, so that they seldom meet.
        let offset = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or(0);
        for n in 0..blocks {
            let base = FIRST + (offset + n) % blocks * BLOCK;
            let path = folder.join(base.to_string());
            let lock = File::create(&path).map_err(Error::io(format!("making {}", path.display())))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let ports = Self { base, given: AtomicU16::new(0), _lock: lock };
            if ports.free() {
                return Ok(ports);
            }
        }
        Err(Error::NoPorts(BLOCK))
    }

    /// The next port of the block.
    pub(crate) fn next(&self) -> Result<u16> {
        let n = self.given.fetch_add(1, Ordering::Relaxed);
        if n < BLOCK { Ok(self.base + n) } else { Err(Error::NoPorts(BLOCK)) }
    }

    /// Whether nobody listens on any of them.
    pub(crate) fn free(&self) -> bool {
        (self.base..self.base + BLOCK).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    }
}
