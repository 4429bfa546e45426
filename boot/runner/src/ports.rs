//! Checks that the host's ports are free before QEMU is started.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;

/// Checks that `port` on 127.0.0.1 can be listened on; `option` is the one that chooses it.
///
/// # Errors
/// Port 0, a port in use, or one this user may not have.
pub fn check_free(option: &str, port: u16) -> anyhow::Result<()> {
    if port == 0 {
        bail!("{option} 0: give a port from 1 to 65535");
    }
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { return Ok(()) };
    match error.kind() {
        ErrorKind::AddrInUse => bail!(
            "port {port} on 127.0.0.1 is in use; stop what uses it, or choose another with \
             {option} PORT"
        ),
        ErrorKind::PermissionDenied => bail!(
            "port {port} on 127.0.0.1 is reserved to the administrator; choose one above 1023 \
             with {option} PORT"
        ),
        _ => bail!("cannot listen on 127.0.0.1:{port}: {error}; choose another with {option} PORT"),
    }
}

/// Ports that no system gives to outgoing connections by itself (RFC 6335 §6 begins those at
/// 49152, Linux at 32768), so that one picked here stays free until it is used.
const PICKED: Range<u16> = 10_000..32_000;

/// A port on 127.0.0.1 that nothing listens on, and that this process has not picked before.
///
/// # Errors
/// The host has none left.
pub fn pick_free() -> anyhow::Result<u16> {
    static PICKS: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PICKED.end - PICKED.start);
    // Processes begin far apart, so that they seldom try the same port at the same time.
    let first = process::id().wrapping_mul(97);
    for _ in 0..count {
        let pick = first.wrapping_add(PICKS.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PICKED.start + u16::try_from(pick)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} on 127.0.0.1 is free", PICKED.start, PICKED.end - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_the_option_to_change_it() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check_free("--nvmf-port", port).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--nvmf-port"), "{error}");
    }

    #[test]
    fn a_free_port_is_accepted() {
        // Others on this host may take a port between the choice and the check.
        let accepted = |_| check_free("--nvmf-port", pick_free().unwrap()).is_ok();
        assert!((0..100).any(accepted));
    }

    #[test]
    fn no_port_is_picked_twice() {
        let picked: HashSet<_> = (0..1000).map(|_| pick_free().unwrap()).collect();
        assert_eq!(picked.len(), 1000);
    }
}
