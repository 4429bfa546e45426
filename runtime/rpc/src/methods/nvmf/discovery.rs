//! Other services that the discovery log page refers hosts to.

use alloc::format;
use alloc::string::String;

use basalt_net::Endpoint;
use basalt_nvmf::{DISCOVERY_NQN, Listener, Referral, Target};
use serde_json::{Value, json};

use super::config_error;
use super::params::read_service;
use super::show::listener;
use crate::{Context, Outcome, Params, Router, RpcError, When};

pub(super) fn register(router: &mut Router) {
    router.register("nvmf_discovery_add_referral", When::Runtime, add);
    router.register("nvmf_discovery_remove_referral", When::Runtime, remove);
    router.register("nvmf_discovery_get_referrals", When::Runtime, get);
}

fn add(cx: Context, mut params: Params) -> Outcome {
    let (at, subnqn) = read(&mut params)?;
    let secure_channel = params.optional("secure_channel")?.unwrap_or(false);
    params.finish()?;
    let key = key(at, &subnqn);
    let referral = Referral { at, subnqn, secure_channel };
    cx.service::<Target>()?.add_referral(referral).map_err(config_error)?;
    cx.remember("nvmf", key);
    Ok(Value::Bool(true))
}

fn remove(cx: Context, mut params: Params) -> Outcome {
    let (at, subnqn) = read(&mut params)?;
    params.finish()?;
    cx.service::<Target>()?.remove_referral(at, &subnqn).map_err(config_error)?;
    cx.forget("nvmf", &key(at, &subnqn));
    Ok(Value::Bool(true))
}

fn get(cx: Context, mut params: Params) -> Outcome {
    params.ignore(&["tgt_name"]);
    params.finish()?;
    let to_json = |referral: Referral| {
        json!({
            "address": listener(&referral.at),
            "secure_channel": referral.secure_channel,
            "subnqn": referral.subnqn,
        })
    };
    Ok(cx.service::<Target>()?.referrals().into_iter().map(to_json).collect())
}

/// Where it is and, unless it is said otherwise, the name of every discovery service.
fn read(params: &mut Params) -> Result<(Listener, String), RpcError> {
    let at = read_service(params.object("address")?)?;
    let subnqn = params.optional::<String>("subnqn")?.filter(|name| !name.is_empty());
    params.ignore(&["tgt_name"]);
    Ok((at, subnqn.unwrap_or_else(|| String::from(DISCOVERY_NQN))))
}

fn key(Listener { address, port }: Listener, subnqn: &str) -> String {
    format!("referral {} {subnqn}\0", Endpoint::new(address, port))
}
