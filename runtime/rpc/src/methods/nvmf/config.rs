//! What holds for the target as a whole.

use alloc::string::String;
use alloc::vec::Vec;

use basalt_nvmf::{DiscoveryFilter, DuplicateHosts, Target};
use serde_json::Value;

use crate::{Context, Outcome, Params, Router, RpcError, When};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_set_config", When::Startup, set);
}

/// Which listeners hosts are told of, and whether they may have twins. The rest is kept for saving:
/// there is nothing here that it could change.
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
    if let Some(target) = cx.local().service::<Target>() {
        target.set_discovery_filter(filter);
        target.set_duplicate_hosts(duplicates.unwrap_or(DuplicateHosts::Allow));
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
