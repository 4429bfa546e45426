//! How a raid bdev is shown, in SPDK's words.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::RaidOptions;
use crate::json::json_string;
use crate::uuid::{self, Uuid};
use crate::{Bdev, BdevInfo};

/// The place of a base.
pub(super) struct Slot {
    /// None if the base is gone for good.
    name: Option<String>,
    uuid: Uuid,
    blocks: u64,
    is_configured: bool,
}

impl Slot {
    /// A base in use.
    pub(super) fn of(info: &BdevInfo) -> Self {
        let (name, blocks) = (Some(info.name.clone()), info.num_blocks.get());
        Self { name, uuid: info.uuid, blocks, is_configured: true }
    }

    /// One that was asked for under that name.
    pub(super) fn found(name: &str, bdev: Option<Arc<dyn Bdev>>) -> Self {
        let named = || Self { name: Some(String::from(name)), ..Self::empty() };
        bdev.map_or_else(named, |bdev| Self::of(bdev.info()))
    }

    /// One whose base is gone.
    pub(super) fn empty() -> Self {
        Self { name: None, uuid: [0; 16], blocks: 0, is_configured: false }
    }

    fn json(&self) -> String {
        let name = self.name.as_deref().map_or_else(|| String::from("null"), json_string);
        let Self { blocks, is_configured, .. } = self;
        let uuid = uuid::format(&self.uuid);
        format!(
            "{{\"name\":{name},\"uuid\":\"{uuid}\",\"is_configured\":{is_configured},\
             \"data_offset\":0,\"data_size\":{blocks}}}"
        )
    }
}

/// Blocks that are being copied to a new base.
pub(super) struct Process {
    pub(super) target: String,
    /// Blocks it has.
    pub(super) done: u64,
    pub(super) percent: u64,
}

impl Process {
    fn json(&self) -> String {
        let Self { target, done, percent } = self;
        let target = json_string(target);
        format!(
            "\"process\":{{\"type\":\"rebuild\",\"target\":{target},\"progress\":{{\
             \"blocks\":{done},\"percent\":{percent}}}}},"
        )
    }
}

/// The JSON object with the single member `raid`. Without a UUID it is not there yet.
pub(super) fn describe(
    options: &RaidOptions,
    uuid: Option<Uuid>,
    slots: Vec<Slot>,
    process: Option<Process>,
) -> String {
    let process = process.map_or_else(String::new, |process| process.json());
    let RaidOptions { level, strip_size_kib, .. } = options;
    let state = if uuid.is_some() { "online" } else { "configuring" };
    let uuid = uuid::format(&uuid.or(options.uuid).unwrap_or_default());
    let found = slots.iter().filter(|slot| slot.is_configured).count();
    let (level, count) = (level.name(), slots.len());
    let operational = if state == "online" { found } else { count };
    let slots: Vec<_> = slots.iter().map(Slot::json).collect();
    let slots = slots.join(",");
    format!(
        "{{\"raid\":{{\"uuid\":\"{uuid}\",\"strip_size_kb\":{strip_size_kib},\
         \"state\":\"{state}\",\"raid_level\":\"{level}\",\"superblock\":false,\
         \"num_base_bdevs\":{count},\"num_base_bdevs_discovered\":{found},\
         \"num_base_bdevs_operational\":{operational},{process}\"base_bdevs_list\":[{slots}]}}}}"
    )
}
