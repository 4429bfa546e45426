//! What holds for the target as a whole.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use basalt_nvmf::{AdminPassthru, DiscoveryFilter, DuplicateHosts, Target};
use serde_json::{Map, Value};

use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// Parameters without effect here: how many cores there are, and authentication.
const FOREIGN: [&str; 5] =
    ["acceptor_poll_rate", "conn_sched", "poll_groups_mask", "dhchap_digests", "dhchap_dhgroups"];

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_set_config", When::Startup, set);
    router.register("nvmf_set_max_subsystems", When::Startup, set_max_subsystems);
    router.register("nvmf_set_crdt", When::Startup, set_crdt);
}

/// How many subsystems there may be; the discovery subsystem is one of them, as in SPDK.
fn set_max_subsystems(cx: Context, mut params: Params) -> Outcome {
    let max_subsystems: u32 = params.required("max_subsystems")?;
    params.finish()?;
    let Some(max_subsystems) = NonZeroU32::new(max_subsystems) else {
        return Err(RpcError::params("'max_subsystems' is 1 or more"));
    };
    if let Some(target) = cx.local().service::<Target>() {
        target.set_subsystems_max(max_subsystems);
    }
    cx.remember("nvmf", "options nvmf_set_max_subsystems ");
    Ok(Value::Bool(true))
}

/// How long hosts are to wait before they try again, in units of 100 ms.
fn set_crdt(cx: Context, mut params: Params) -> Outcome {
    let mut crdt = [0; 3];
    for (name, time) in ["crdt1", "crdt2", "crdt3"].into_iter().zip(&mut crdt) {
        *time = params.optional::<u16>(name)?.unwrap_or(0);
    }
    params.finish()?;
    if let Some(target) = cx.local().service::<Target>() {
        target.set_crdt(crdt);
    }
    cx.remember("nvmf", "options nvmf_set_crdt ");
    Ok(Value::Bool(true))
}

/// Which listeners hosts are told of, whether they may have twins, and which admin commands go to
/// drives. The rest is kept for saving: there is nothing here that it could change.
fn set(cx: Context, mut params: Params) -> Outcome {
    let filter = read_filter(&mut params)?;
    let duplicates = match params.optional::<String>("dup_host_policy")?.as_deref() {
        None => None,
        Some("allow") => Some(DuplicateHosts::Allow),
        Some("restrict_per_listener") => Some(DuplicateHosts::RestrictPerListener),
        Some(other) => {
            let message = format_args!("'dup_host_policy': there is no policy '{other}'");
            return Err(RpcError::params(message));
        }
    };
    let chosen: Option<Map<String, Value>> = params.optional("admin_cmd_passthru")?;
    let passthru = read_passthru(&chosen.unwrap_or_default())?;
    params.ignore(&FOREIGN);
    params.finish()?;
    if let Some(target) = cx.local().service::<Target>() {
        target.set_discovery_filter(filter);
        target.set_duplicate_hosts(duplicates.unwrap_or(DuplicateHosts::Allow));
        target.set_admin_passthru(passthru);
    }
    cx.remember("nvmf", "options nvmf_set_config ");
    Ok(Value::Bool(true))
}

/// SPDK's list of what listeners have in common with the one that a host has used, as text with
/// commas or, by the newer name, as an array.
fn read_filter(params: &mut Params) -> Result<DiscoveryFilter, RpcError> {
    let text: Option<String> = params.optional("discovery_filter")?;
    let list: Option<Vec<String>> = params.optional("discovery_filters")?;
    let list = list.unwrap_or_default();
    let names: Vec<&str> = match &text {
        Some(text) => text.split(',').collect(),
        None => list.iter().map(String::as_str).collect(),
    };
    let mut filter = DiscoveryFilter::default();
    for name in &names {
        match *name {
            "match_any" if names.len() == 1 => {}
            // There is one transport.
            "transport" => {}
            "address" => filter.address = true,
            "svcid" => filter.port = true,
            _ => {
                let message = format_args!("'discovery_filter': '{name}' does not belong there");
                return Err(RpcError::params(message));
            }
        }
    }
    Ok(filter)
}

/// Reads `{"identify_ctrlr": true, …}`.
fn read_passthru(chosen: &Map<String, Value>) -> Result<AdminPassthru, RpcError> {
    let mut passthru = AdminPassthru::NONE;
    for (name, value) in chosen {
        let Some(is_wanted) = value.as_bool() else {
            let message = format_args!("'admin_cmd_passthru': '{name}' is true or false");
            return Err(RpcError::params(message));
        };
        let known = AdminPassthru::NAMES.into_iter().find(|(known, _)| known == name);
        match known {
            Some((_, kind)) if is_wanted => passthru = passthru.with(kind),
            Some(_) => {}
            None if name == "nvme_mi" && !is_wanted => {}
            None if name == "nvme_mi" => {
                let message = "nvme_mi: how much data such a command moves is not known; \
                               leave it out";
                return Err(RpcError::errno(errno::EOPNOTSUPP, message));
            }
            None => {
                let message = format_args!("'admin_cmd_passthru': there is no '{name}'");
                return Err(RpcError::params(message));
            }
        }
    }
    Ok(passthru)
}
