//! Which parts' details are logged. The log is the program's own, as its level is, so this is too.

use core::sync::atomic::{AtomicU32, Ordering};

/// The parts by which log lines of `debug` and `trace` level can be left out, as `target`s.
pub const LOG_FLAGS: [&str; 10] = [
    "bdev",
    "bdev_nvme",
    "bdev_virtio",
    "iommu",
    "net",
    "nvme",
    "nvmf",
    "pci",
    "rpc",
    "virtio-net",
];

/// A bit for each that is left out.
static MUTED: AtomicU32 = AtomicU32::new(0);

/// Whether details of the flag at `index` of [`LOG_FLAGS`] are logged.
pub fn log_flag(index: usize) -> bool {
    MUTED.load(Ordering::Relaxed) & mask(index) == 0
}

/// Has details of the flag at `index` logged from now on.
pub fn set_log_flag(index: usize) {
    MUTED.fetch_and(!mask(index), Ordering::Relaxed);
}

/// Has them left out.
pub fn clear_log_flag(index: usize) {
    MUTED.fetch_or(mask(index), Ordering::Relaxed);
}

/// Whether details of `target` are logged: a logger asks for those of `debug` and `trace` level.
pub fn logs_details_of(target: &str) -> bool {
    if MUTED.load(Ordering::Relaxed) == 0 {
        return true;
    }
    let target = target.strip_prefix("basalt_").unwrap_or(target);
    let is_of = |flag: &&str| {
        target.strip_prefix(*flag).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    LOG_FLAGS.iter().position(is_of).is_none_or(log_flag)
}

const fn mask(index: usize) -> u32 {
    1 << (index % 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_left_out_of_the_parts_whose_flag_is_cleared() {
        let nvmf = LOG_FLAGS.iter().position(|flag| *flag == "nvmf").unwrap();
        let of = || ["nvmf", "basalt_nvmf::session", "nvme", "else"].map(logs_details_of);
        assert_eq!(of(), [true; 4]);
        clear_log_flag(nvmf);
        assert!(!log_flag(nvmf));
        assert_eq!(of(), [false, false, true, true]);
        set_log_flag(nvmf);
        assert_eq!(of(), [true; 4]);
    }
}
