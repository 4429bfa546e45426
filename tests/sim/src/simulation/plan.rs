use basalt_models::nvme::{Config, MetadataPlace, NamespaceConfig, Shadowing};
use basalt_nvme_spec::identify::Oncs;

use super::random::Random;

/// What stands on the controllers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    Plain,
    Passthru,
    Half,
    Late,
    Striped,
    Mirrored,
}

impl Layout {
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Passthru, Self::Half, Self::Late, Self::Striped, Self::Mirrored];

    /// The bdev that is exported.
    pub const fn exported(self) -> &'static str {
        match self {
            Self::Plain => "Nvme0n1",
            Self::Half => "Nvme0n1p1",
            Self::Late => "D",
            Self::Passthru | Self::Striped => "P",
            Self::Mirrored => "R",
        }
    }

    const fn controllers(self) -> usize {
        if matches!(self, Self::Striped | Self::Mirrored) { 2 } else { 1 }
    }
}

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub cores: usize,
    pub layout: Layout,
    pub controllers: Vec<Config>,
    /// Largest command of the host, bytes.
    pub io_len_max: u32,
    pub block_size: u32,
}

impl Plan {
    /// The one that follows from a seed.
    pub fn new(seed: u64, layout: Layout) -> Self {
        let mut random = Random::new(seed);
        let block_size = random.pick(&[512, 512, 4096]);
        let controllers = (0..layout.controllers())
            .map(|index| controller(&mut random, block_size, index as u8))
            .collect();
        Self {
            seed,
            cores: 1 + random.below(3) as usize,
            layout,
            controllers,
            io_len_max: random.pick(&[64 << 10, 256 << 10]),
            block_size,
        }
    }
}

fn controller(random: &mut Random, block_size: u32, index: u8) -> Config {
    let namespace = NamespaceConfig::new(1, block_size, (2 << 20) / u64::from(block_size));
    let place = random.pick(&[MetadataPlace::Separate, MetadataPlace::InLine]);
    let size = random.pick(&[0, 0, 8, 16, 64]);
    let mut namespace = namespace.with_metadata(size, place);
    namespace.uuid[15] = index;
    if size > 0 {
        namespace.protection = random.below(4) as u8;
    }
    let always = Oncs::DATASET_MANAGEMENT | Oncs::WRITE_ZEROES;
    let optional = [Oncs::COMPARE, Oncs::VERIFY, Oncs::COPY];
    let oncs = optional.into_iter().filter(|_| random.once_in(2)).fold(always, |a, b| a | b);
    // Metadata behind the data takes SGLs.
    let sgls = place == MetadataPlace::InLine || random.once_in(2);
    let shadow = random.pick(&[Shadowing::No, Shadowing::WhenTold, Shadowing::Always]);
    Config {
        namespaces: vec![namespace],
        oncs,
        sgls,
        shadow,
        pci_bus: index,
        mdts: random.pick(&[1, 4, 8]),
        boundary: random.pick(&[0, 0, 8, 100]),
        queues: random.pick(&[1, 2, 8]),
        queue_entries_max: random.pick(&[4, 64, 1024]),
        dataless_max: random.pick(&[0, 1, 4]),
        range_max: random.pick(&[7, 4096]),
        fused_max: random.pick(&[0, 8]),
        serial: format!("SIM{index}"),
        ..Config::default()
    }
}
