//! The page, as it was built.

/// Its bytes, in gzip.
pub const PAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/index.html.gz"));

/// What browsers know it by, quotes included.
pub const TAG: &str = env!("PAGE_TAG");

/// What it may do.
pub const POLICY: &str = env!("PAGE_POLICY");
