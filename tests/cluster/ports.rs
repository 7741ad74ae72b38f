//! Blocks of loopback ports, one for each cluster.
//!
//! The blocks are below the ports that systems use for outgoing connections (32768 and up), so only another listener
//! can take a port. A lock on each block keeps our own clusters apart.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::cache::cache_folder;
use crate::{Error, Result};

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 20;

/// A block of ports, reserved while this value lives.
#[derive(Debug)]
pub(crate) struct Ports {
    base: u16,
    given: AtomicU16,
    _lock: File,
}

impl Ports {
    /// Reserves a block whose ports are all free.
    pub(crate) fn reserve() -> Result<Self> {
        let folder = cache_folder()?.join("ports");
        std::fs::create_dir_all(&folder).map_err(Error::io(format!("making {}", folder.display())))?;
        let blocks = (LAST - FIRST) / BLOCK;
        // Each process starts its search at another block, so that two processes seldom meet.
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

    /// Whether no program listens on any of the ports.
    pub(crate) fn free(&self) -> bool {
        (self.base..self.base + BLOCK).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    }
}
