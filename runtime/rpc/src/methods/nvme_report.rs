//! What NVMe controllers tell of what is administered, as JSON.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::{NvmeNamespaces, NvmeReport, Registry};
use basalt_nvme_spec::log_page::{
    CommandEffects, FirmwareSlots, SanitizeStatus, SelfTestLog, SelfTestResult,
};
use basalt_nvme_spec::manage::Activation;
use basalt_nvme_spec::{AdminOpcode, NvmOpcode, Status, ascii_field};
use basalt_nvmf::Target;
use serde_json::{Map, Value, json};

use crate::Context;

/// What it takes for a committed image to run.
pub(super) const fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Done => "done",
        Activation::NotAsked => "not_asked_for",
        Activation::ControllerReset => "controller_reset",
        Activation::SubsystemReset => "subsystem_reset",
        Activation::ConventionalReset => "conventional_reset",
        Activation::ResetForLackOfTime => "controller_reset_for_lack_of_time",
    }
}

/// What a controller tells.
pub(super) fn report_to_json(report: &NvmeReport) -> Value {
    match report {
        NvmeReport::Done => Value::Bool(true),
        NvmeReport::Created(nsid) => json!({"nsid": nsid}),
        NvmeReport::Committed(needed) => json!({"activation": activation(*needed)}),
        NvmeReport::Firmware(slots) => firmware(slots),
        NvmeReport::Effects(effects) => all_effects(effects),
        NvmeReport::SelfTests(log) => self_tests(log),
        NvmeReport::Sanitizing(status) => sanitizing(status),
        NvmeReport::Namespaces(namespaces) => all_namespaces(namespaces),
    }
}

fn firmware(slots: &FirmwareSlots) -> Value {
    let revision = |(slot, revision): (u32, &[u8; 8])| {
        let used = revision.iter().any(|byte| *byte != 0);
        used.then(|| json!({"slot": slot, "revision": ascii_field(revision).unwrap_or("?")}))
    };
    let revisions: Vec<Value> = (1..).zip(&slots.revision).filter_map(revision).collect();
    let next = Some(slots.next()).filter(|slot| *slot != 0);
    json!({"active_slot": slots.current(), "next_slot": next, "slots": revisions})
}

fn all_effects(effects: &CommandEffects) -> Value {
    let admin = |opcode| AdminOpcode(opcode).name();
    let io = |opcode| NvmOpcode(opcode).name();
    json!({
        "admin": commands(effects.admin.iter().map(|entry| entry.get()), admin),
        "io": commands(effects.io.iter().map(|entry| entry.get()), io),
    })
}

/// The commands whose entries, by opcode, say that they are supported.
fn commands(
    entries: impl Iterator<Item = u32>,
    name: impl Fn(u8) -> Option<&'static str>,
) -> Vec<Value> {
    const EFFECTS: [(u32, &str); 4] = [
        (CommandEffects::LOGICAL_BLOCKS_CHANGE, "logical_blocks_change"),
        (CommandEffects::NAMESPACES_CHANGE, "namespaces_change"),
        (CommandEffects::INVENTORY_CHANGE, "inventory_change"),
        (CommandEffects::CONTROLLER_CHANGE, "controller_change"),
    ];
    let supported = |(_, entry): &(u8, u32)| entry & CommandEffects::SUPPORTED != 0;
    let command = |(opcode, entry): (u8, u32)| {
        let has = |(bit, _): &&(u32, &str)| entry & bit != 0;
        let effects: Vec<&str> = EFFECTS.iter().filter(has).map(|(_, name)| *name).collect();
        let exclusion = entry >> CommandEffects::EXCLUSION_SHIFT & 7;
        json!({
            "opcode": opcode,
            "name": name(opcode),
            "effects": effects,
            "exclusion": exclusion,
        })
    };
    (0..=u8::MAX).zip(entries).filter(supported).map(command).collect()
}

fn test_name(code: u8) -> String {
    match code {
        1 => "short".into(),
        2 => "extended".into(),
        code => format!("{code:#x}"),
    }
}

fn self_tests(log: &SelfTestLog) -> Value {
    let current = log.current & 0xf;
    let under_way = (current != 0)
        .then(|| json!({"test": test_name(current), "completion_percent": log.completion & 0x7f}));
    let used = |result: &&SelfTestResult| result.outcome() != SelfTestResult::UNUSED;
    let results: Vec<Value> = log.results.iter().filter(used).map(test_result).collect();
    json!({"under_way": under_way, "results": results})
}

fn test_result(result: &SelfTestResult) -> Value {
    let outcome = match result.outcome() {
        SelfTestResult::PASSED => "passed",
        SelfTestResult::ABORTED => "aborted",
        SelfTestResult::ABORTED_BY_RESET => "aborted_by_reset",
        3 => "aborted_by_namespace_removal",
        4 => "aborted_by_format",
        5 => "not_completed",
        6 => "failed",
        7 => "failed_in_segment",
        8 => "aborted",
        9 => "aborted_by_sanitize",
        _ => "unknown",
    };
    let mut json = Map::new();
    let mut set = |name: &str, value: Value| json.insert(name.into(), value);
    set("test", test_name(result.code()).into());
    set("outcome", outcome.into());
    set("power_on_hours", result.power_on_hours.get().into());
    if result.outcome() == 7 {
        set("segment", result.segment.into());
    }
    if result.valid & 1 != 0 {
        set("nsid", result.nsid.get().into());
    }
    if result.valid & 1 << 1 != 0 {
        set("failing_lba", result.lba.get().into());
    }
    if result.valid >> 2 & 3 == 3 {
        set("status", format!("{}", Status::new(result.status_type, result.status_code)).into());
    }
    Value::Object(json)
}

fn sanitizing(status: &SanitizeStatus) -> Value {
    let state = match status.state() {
        SanitizeStatus::NEVER => "never",
        SanitizeStatus::DONE | SanitizeStatus::DONE_WITH_DEALLOCATION => "done",
        SanitizeStatus::IN_PROGRESS => "in_progress",
        SanitizeStatus::FAILED => "failed",
        _ => "unknown",
    };
    let under_way = status.state() == SanitizeStatus::IN_PROGRESS;
    let percent = under_way.then(|| (u32::from(status.progress.get()) * 100) >> 16);
    let [overwrite, block_erase, crypto_erase] =
        status.seconds.map(|seconds| Some(seconds.get()).filter(|seconds| *seconds != u32::MAX));
    json!({
        "state": state,
        "completion_percent": percent,
        "passes_done": status.status.get() >> 3 & 0x1f,
        "estimated_seconds": {
            "overwrite": overwrite,
            "block_erase": block_erase,
            "crypto_erase": crypto_erase,
        },
    })
}

fn all_namespaces(namespaces: &NvmeNamespaces) -> Value {
    let NvmeNamespaces { allocated, attached, controllers, .. } = namespaces;
    // JSON has no larger numbers that all clients read.
    let bytes = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX);
    json!({
        "allocated": allocated,
        "attached": attached,
        "controllers": controllers,
        "total_bytes": bytes(namespaces.total_bytes),
        "unallocated_bytes": bytes(namespaces.unallocated_bytes),
    })
}

/// Who has a bdev open, as far as that is told somewhere: subsystems, and bdevs over it.
pub(super) fn users(cx: &Context, bdev: &str) -> Vec<String> {
    let target = cx.service::<Target>().map_or_else(|_| Vec::new(), |target| target.subsystems());
    let exports = |subsystem: &&basalt_nvmf::SubsystemInfo| {
        subsystem.namespaces.iter().any(|namespace| namespace.bdev == bdev)
    };
    let subsystems = target.iter().filter(exports).map(|subsystem| subsystem.nqn.clone());
    let all = cx.service::<Registry>().map_or_else(|_| Vec::new(), |registry| registry.list());
    let above = all.iter().filter(|other| {
        let told = serde_json::from_str::<Value>(&other.driver_specific());
        other.info().name != bdev && told.is_ok_and(|told| names(&told, bdev))
    });
    subsystems.chain(above.map(|other| other.info().name.clone())).collect()
}

/// Whether a value says that name somewhere.
fn names(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(values) => values.iter().any(|value| names(value, name)),
        Value::Object(fields) => fields.values().any(|value| names(value, name)),
        _ => false,
    }
}
