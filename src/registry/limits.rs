//! Every limit of this crate, with its source.

use std::time::Duration;

/// The time for one operation with all its requests. A component of 64 MiB arrives in it at 5 Mbit/s.
pub const TIMEOUT: Duration = Duration::from_mins(2);

/// The time for a TCP and TLS connection, within that of the operation. A registry that does not answer is reported soon.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest manifest, in bytes. The specification of OCI requires registries to accept 4 MiB.
pub const MANIFEST_BYTES: usize = 4 << 20;

/// The largest answer of a token server and the largest payload of a signature, in bytes. A token has a few KiB, and the
/// payload of cosign some 250 bytes.
pub const SMALL_BODY_BYTES: usize = 64 << 10;

/// The number of signatures of one artifact. Each of them is one request.
pub const SIGNATURES: usize = 32;

/// The number of redirects of one request. Registries redirect a blob once, to their storage.
pub const REDIRECTS: usize = 5;
