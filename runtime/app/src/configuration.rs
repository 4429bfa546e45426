//! The configuration: checked as a whole, and carried out only if nothing is wrong with it.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_env::Ticks;
use basalt_reactor::{Options, Reactor, mesh};
use basalt_rpc::{Complaint, Config, ConfigError, Rpc, State};

use crate::bench::{self, Instruments};
use crate::control;

/// What is to be exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exports {
    /// What is, and will be, configured.
    AsConfigured,
    /// The default, for nothing is configured.
    Default,
}

/// Carries out the configuration the machine was started with.
///
/// If it fails, the log has every reason, and the machine goes on: with JSON-RPC it can be put
/// right. The default is not exported then, which would be open to every host.
///
/// # Errors
/// A configuration that is a benchmark failed, which was the machine's only purpose.
pub async fn carry_out(config: &Config, rpc: &Rc<Rpc>) -> Result<Exports, ConfigError> {
    let Err(error) = config.apply(rpc).await else {
        let is_default = !config.has_subsystem("nvmf") && !config.is_whole();
        return Ok(if is_default { Exports::Default } else { Exports::AsConfigured });
    };
    if config.has_subsystem("bench") {
        return Err(error);
    }
    for line in format!("{error}").lines() {
        log::error!(target: "basalt", "{line}");
    }
    let done = match error {
        ConfigError::Wrong(_) => "nothing of the configuration was carried out",
        ConfigError::Call { .. } => "the configuration was carried out up to that call",
    };
    log::error!(
        target: "basalt",
        "{done}; correct it and start again, or go on by JSON-RPC, which is served all the same"
    );
    Ok(Exports::AsConfigured)
}

/// What a configuration holds, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Calls that can be made out.
    pub calls: usize,
    /// All that is wrong, as far as it does not depend on the machine, in the order of the text.
    pub complaints: Vec<Complaint>,
}

/// Checks a configuration as [`carry_out`] does, without a machine.
pub fn check(text: &[u8]) -> Checked {
    let config = Config::parse(text);
    let reactors: Vec<Reactor> =
        mesh(1, Options::default()).into_iter().map(|seed| seed.build()).collect();
    let complaints = reactors.first().map_or_else(Vec::new, |reactor| {
        let instruments = Instruments { ticks: NoTicks, allocations: || 0 };
        let more = |router: &mut _| bench::register(router, instruments, || {});
        let router = control::methods(|| None, more);
        config.check(&Rpc::start(&reactor.local(), router, State::Runtime))
    });
    Checked { calls: config.len(), complaints }
}

/// Nothing is measured where parameters are only read.
#[derive(Clone, Copy)]
struct NoTicks;

impl Ticks for NoTicks {
    fn ticks(&self) -> u64 {
        0
    }

    fn hz(&self) -> u64 {
        1
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::string::{String, ToString};

    use basalt_rpc::Router;

    use super::*;

    #[test]
    fn the_methods_of_every_environment_are_known_without_one() {
        let text = r#"{"subsystems": [
            {"subsystem": "bench", "config": [
                {"method": "bench_run", "params": {"bdev": "N", "depths": [8]}},
                {"method": "env_get_mem_stats"}, {"method": "bench_exit"}]},
            {"subsystem": "bdev", "config": [
                {"method": "bdev_aio_create", "params": {"name": "A", "filename": "/a"}},
                {"method": "bdev_nvme_set_options", "params":
                    {"priorities": [{"core": 99, "priority": "low"}]}}]}]}"#;
        assert_eq!(check(text.as_bytes()), Checked { calls: 5, complaints: Vec::new() });
        let wrong = check(text.replace("\"depths\": [8]", "\"depth\": 8").as_bytes());
        let said: Vec<String> = wrong.complaints.iter().map(ToString::to_string).collect();
        let expected = "3:65: subsystems[0].config[0].params.depth: unknown parameter (did you \
                        mean \"depths\"?)";
        assert_eq!(said, [expected]);
    }

    /// The pages on methods of `runtime/rpc` have a test there.
    #[test]
    fn the_methods_of_the_application_itself_are_on_a_page() {
        let mut general = Router::default();
        basalt_rpc::methods::register_all(&mut general);
        let instruments = Instruments { ticks: NoTicks, allocations: || 0 };
        let all = control::methods(|| None, |router| bench::register(router, instruments, || {}));
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration");
        let read = |entry: Result<fs::DirEntry, _>| fs::read_to_string(entry.unwrap().path());
        let pages: Result<String, _> = fs::read_dir(pages).unwrap().map(read).collect();
        let pages = pages.unwrap();
        for name in all.names(None).filter(|name| !general.contains(name)) {
            assert!(pages.contains(&format!("\n### `{name}`\n")), "{name}");
        }
    }
}
