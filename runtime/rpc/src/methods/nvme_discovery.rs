//! Controllers of other machines that a discovery service tells of.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_nvmf::DISCOVERY_NQN;
use basalt_nvmf_initiator::{
    Discoveries, DiscoveryInfo, DiscoveryOptions, RemoteOptions, TransportId,
};
use serde_json::{Value, json};

use super::nvme_remote::{check_trtype, read_options, read_transport, refusal, trid};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// The port of NVMe/TCP discovery (NVMe/TCP §3.1.1).
const PORT: u16 = 8009;

pub(super) fn register(router: &mut Router) {
    router.register_async("bdev_nvme_start_discovery", When::Runtime, start_discovery);
    router.register_async("bdev_nvme_stop_discovery", When::Runtime, stop_discovery);
    router.register("bdev_nvme_get_discovery_info", When::Runtime, get_discovery_info);
}

async fn start_discovery(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    check_trtype(&mut params)?;
    let transport = read_transport(&mut params, PORT)?;
    let wait: bool = params.optional("wait_for_attach")?.unwrap_or(false);
    let limit_ms: u64 = params.optional("attach_timeout_ms")?.unwrap_or(0);
    let remote = RemoteOptions::new(cx.local(), &*name, DISCOVERY_NQN);
    let remote = read_options(&cx, remote, &mut params)?;
    params.finish()?;
    let discoveries = Discoveries::of(cx.local());
    let options = DiscoveryOptions { name: name.clone(), transport, remote };
    discoveries.start(cx.local(), options).map_err(|error| refusal(&error))?;
    if wait || limit_ms > 0 {
        let settled = settle(&cx, &name, limit_ms).await;
        if let Err(error) = settled {
            // What has not come to an end in time is not to go on unseen. A connection may still be
            // waited for, which nobody else is to wait for.
            cx.local().spawn("bdev_nvme_discovery", async move {
                let _ = discoveries.stop(&name).await;
            });
            return Err(error);
        }
    }
    cx.remember("bdev", key(&name));
    Ok(Value::Bool(true))
}

/// Waits until all is attached, for so long if that is not 0.
async fn settle(cx: &Context, name: &str, limit_ms: u64) -> Result<(), RpcError> {
    let discoveries = Discoveries::of(cx.local());
    let settled = discoveries.settled(name);
    if limit_ms == 0 {
        return settled.await.map_err(|error| refusal(&error));
    }
    match cx.local().timeout(Duration::from_millis(limit_ms), settled).await {
        Ok(settled) => settled.map_err(|error| refusal(&error)),
        Err(_) => Err(RpcError::errno(
            errno::ETIMEDOUT,
            "not all that the discovery service tells of could be attached in time",
        )),
    }
}

async fn stop_discovery(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    Discoveries::of(cx.local()).stop(&name).await.map_err(|error| refusal(&error))?;
    cx.forget("bdev", &key(&name));
    Ok(Value::Bool(true))
}

fn key(name: &str) -> String {
    format!("nvme discovery {name}")
}

fn get_discovery_info(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let referral = |transport: &TransportId| json!({"trid": trid(*transport, DISCOVERY_NQN)});
    let info = |discovery: &DiscoveryInfo| {
        let referrals: Vec<Value> = discovery.referrals.iter().map(referral).collect();
        json!({
            "name": discovery.name,
            "trid": trid(discovery.transport, DISCOVERY_NQN),
            "referrals": referrals,
        })
    };
    Ok(Discoveries::of(cx.local()).list().iter().map(info).collect())
}
