//! A configuration file, read and carried out; and what it has made, saved, loaded and saved again.

use basalt_rpc::Config;

use crate::rpc::Controlled;
use crate::seed::Seed;

/// The file.
pub fn run(bytes: &[u8]) {
    let config = Config::parse(bytes);
    assert!(config.len() <= bytes.len());
    let _ = (config.interfaces(), config.nvme_options(2), config.has_subsystem("nvmf"));
    let mut controlled = Controlled::new();
    let complaints = config.check(&controlled.rpc);
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(complaints.iter().all(|at| (1..=lines).contains(&at.line)), "{complaints:?}");
    // Its calls up to the first that is refused, or none if any is wrong.
    let _ = controlled.apply(config);
    controlled.machine.rounds(50);
    controlled.check_saved();
}

/// Configurations of everything.
pub fn seeds() -> Vec<Seed> {
    let whole =
        |file: &&str| file.lines().fold(Seed::default(), |seed, line| seed.part(line.as_bytes()));
    FILES.iter().map(whole).collect()
}

const FILES: [&str; 4] = [
    include_str!("../../seeds/config-export.json"),
    include_str!("../../seeds/config-network.json"),
    include_str!("../../seeds/config-stacked.json"),
    include_str!("../../../../runtime/rpc/src/tests/spdk_config.json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_carried_out_whole() {
        for (index, seed) in seeds().iter().enumerate() {
            let config = Config::parse(&seed.bytes);
            // This machine has no network of its own.
            let expected = index != 1;
            assert_eq!(Controlled::new().apply(config).is_ok(), expected, "{index}");
        }
    }
}
