//! What the host itself can do: a bare socket that sends what a target answers reads with, over
//! loopback, to one that throws it away. No target over that loopback does more on this host.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// A C2HData header (NVMe/TCP transport 1.0, §3.6.2.10) and its data, bytes.
const HEADER: usize = 24;
const DATA: usize = 4096;
/// PDUs that one call sends, and that a target with as many reads in flight has buffers for.
const AT_ONCE: usize = 32;

/// PDUs per second, over that time.
///
/// # Errors
/// There is no loopback.
pub(super) fn measure(time: Duration) -> anyhow::Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback")?;
    let mut writer = TcpStream::connect(listener.local_addr()?).context("no loopback")?;
    let (reader, _) = listener.accept().context("no loopback")?;
    let reader = thread::spawn(move || discard(reader));
    let sent = send(&mut writer, time).context("loopback does not carry data")?;
    drop(writer);
    let _ = reader.join();
    Ok(sent)
}

fn send(writer: &mut TcpStream, time: Duration) -> std::io::Result<u64> {
    let (header, data) = ([0; HEADER], vec![0; DATA * AT_ONCE]);
    let pdus = data.chunks(DATA).flat_map(|data| [IoSlice::new(&header), IoSlice::new(data)]);
    let pdus: Vec<_> = pdus.collect();
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < time {
        bytes += writer.write_vectored(&pdus)? as u64;
    }
    let per_second = bytes as f64 / began.elapsed().as_secs_f64();
    Ok((per_second / (HEADER + DATA) as f64) as u64)
}

fn discard(mut reader: TcpStream) {
    let mut buffer = vec![0; DATA * AT_ONCE];
    while reader.read(&mut buffer).is_ok_and(|len| len > 0) {}
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_carries_some() {
        assert!(super::measure(super::Duration::from_millis(200)).unwrap() > 1000);
    }
}
