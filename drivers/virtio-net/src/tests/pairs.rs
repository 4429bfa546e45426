//! Several pairs of queues.

use super::*;
use crate::{CardOptions, Opening};

const SEVERAL: u64 = PLAIN | feature::QUEUES;

/// A card of so many pairs, all but the first in the hands of other cores.
struct Cores {
    model: VirtioNetModel,
    pool: DmaPool,
    card: VirtioNet<ModelDevice>,
    others: Vec<VirtioNet<ModelDevice>>,
}

fn ticking() -> impl Fn() -> Instant {
    let now = Cell::new(Instant::ZERO);
    move || {
        now.set(now.get() + Duration::from_micros(10));
        now.get()
    }
}

/// Brings up a card for so many cores.
fn bring_up_pairs(model: VirtioNetModel, pool: DmaPool, wanted: u16) -> Cores {
    let options = CardOptions { pairs_max: wanted, ..CardOptions::one(CoreId::BOOT) };
    let clock = ticking();
    let mut opening = Opening::new(model.device(), &pool, &clock, options).unwrap();
    let mut made = vec![];
    while let Some(plan) = opening.plan() {
        let memory = plan.make(&pool).unwrap();
        let core = CoreId(made.len() as u16 + 1);
        let bells = opening.add_pair(memory.address(), core).unwrap();
        made.push((memory, bells));
    }
    let (card, pairs) = opening.finish(&pool, &clock).unwrap();
    let used = usize::from(pairs) - 1;
    let others = made.into_iter().take(used).map(|(memory, bells)| memory.join(bells)).collect();
    Cores { model, pool, card, others }
}

/// A card with so many pairs for so many cores.
fn cores(has: u16, wanted: u16, features: u64) -> Cores {
    let machine = Machine::new();
    let pool = machine.pool(32 << 20);
    let model = VirtioNetModel::new(machine.bus(), MAC).with_pairs(has).with_features(features);
    bring_up_pairs(model, pool, wanted)
}

impl Cores {
    fn pairs(&mut self) -> Vec<&mut VirtioNet<ModelDevice>> {
        core::iter::once(&mut self.card).chain(&mut self.others).collect()
    }

    /// Sends a segment of a flow of its own from each pair, and has it answered there.
    fn exchange(&mut self) {
        let count = self.others.len() + 1;
        for at in 0..count {
            let model = self.model.clone();
            let sent = segment(at as u8, 200);
            let pair = &mut *self.pairs()[at];
            send(pair, &sent).unwrap();
            pair.commit();
            assert_eq!(model.take_sent().unwrap(), sent);
            let answer = swapped(&sent);
            model.inject(answer.clone());
            let got = self.pairs()[at].receive().expect("it comes where the flow was sent from");
            assert_eq!(whole(&got), answer);
            self.pairs()[at].recycle(got);
            self.pairs()[at].commit();
        }
        for pair in self.pairs() {
            assert_eq!((pair.stats().rx_frames, pair.stats().tx_frames), (1, 1));
            assert!(pair.receive().is_none());
        }
    }
}

/// A frame with IPv4 and ports, of flow `flow`.
fn segment(flow: u8, len: usize) -> Vec<u8> {
    let mut bytes = frame(len);
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[26..38].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 17, flow, 200, flow]);
    bytes
}

fn swapped(sent: &[u8]) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    bytes[26..30].copy_from_slice(&sent[30..34]);
    bytes[30..34].copy_from_slice(&sent[26..30]);
    bytes[34..36].copy_from_slice(&sent[36..38]);
    bytes[36..38].copy_from_slice(&sent[34..36]);
    bytes
}

#[test]
fn every_core_sends_and_receives_by_a_pair_of_its_own() {
    for features in [SEVERAL, SEVERAL | feature::MRG_RXBUF, feature::ALL] {
        let mut cores = cores(4, 4, features);
        cores.exchange();
        assert_eq!(cores.model.carried(), [[1, 1]; 4]);
    }
}

#[test]
fn there_are_as_many_pairs_as_the_card_has_and_cores_can_use() {
    for (has, wanted, get) in [(1, 4, 1), (2, 4, 2), (4, 2, 2), (4, 1, 1), (3, 3, 3)] {
        let mut cores = cores(has, wanted, feature::ALL);
        assert_eq!(cores.others.len() + 1, get, "{wanted} cores with a card of {has} pairs");
        cores.exchange();
    }
}

#[test]
fn every_subset_of_features_works_with_several_cores() {
    let features = [
        feature::CSUM,
        feature::GUEST_CSUM,
        feature::MTU,
        feature::GUEST_TSO4,
        feature::HOST_TSO4,
        feature::MRG_RXBUF,
        feature::STATUS,
        feature::CTRL_VQ,
        feature::MQ,
    ];
    let (model, pool) = machine();
    let model = model.with_pairs(2);
    for subset in 0..1u32 << features.len() {
        let chosen = features.iter().enumerate().filter(|(at, _)| subset & 1 << at != 0);
        let offered = chosen.fold(PLAIN, |all, (_, feature)| all | feature);
        let model = model.clone().with_features(offered);
        let mut cores = bring_up_pairs(model, pool.clone(), 2);
        let several = offered & feature::QUEUES == feature::QUEUES;
        assert_eq!(cores.others.len(), usize::from(several), "{offered:#x}");
        cores.exchange();
        let Cores { card, others, .. } = cores;
        drop(card);
        drop(others);
    }
}

#[test]
fn a_card_that_refuses_pairs_is_reset_and_has_one() {
    for fault in [Fault::RefusesCommands, Fault::SilentCommands, Fault::EmptyAnswers] {
        let machine = Machine::new();
        let pool = machine.pool(32 << 20);
        let model = VirtioNetModel::new(machine.bus(), MAC).with_pairs(2);
        model.set_fault(Some(fault));
        let before = pool.stats();
        let mut cores = bring_up_pairs(model, pool, 2);
        assert!(cores.others.is_empty(), "{fault:?}");
        cores.model.set_fault(None);
        cores.exchange();
        let Cores { card, pool, .. } = cores;
        drop(card);
        assert_eq!(pool.stats(), before, "{fault:?}");
    }
}

#[test]
fn a_card_that_lies_about_its_pairs_has_one_or_as_many_as_there_are() {
    // None, more than there may be, more than there is an index for, and more than there are.
    for (claimed, get) in [(0, 1), (0x8001, 1), (0x8000, 1), (3, 1)] {
        let machine = Machine::new();
        let pool = machine.pool(32 << 20);
        let model = VirtioNetModel::new(machine.bus(), MAC).with_pairs(2);
        model.claim_pairs(claimed);
        let mut cores = bring_up_pairs(model, pool, 3);
        assert_eq!(cores.others.len() + 1, get, "{claimed} claimed");
        cores.exchange();
    }
}

#[test]
fn a_card_can_be_brought_up_again_with_other_pairs() {
    let mut several = cores(4, 4, feature::ALL);
    several.exchange();
    let Cores { model, pool, card, others } = several;
    // It stops the device; then the memory of the others may go.
    drop(card);
    drop(others);
    for wanted in [1, 3, 4] {
        let mut again = bring_up_pairs(model.clone(), pool.clone(), wanted);
        assert_eq!(again.others.len() + 1, usize::from(wanted));
        again.exchange();
        let Cores { card, others, .. } = again;
        drop(card);
        drop(others);
    }
}

#[test]
fn memory_of_a_pair_is_what_its_plan_says() {
    for features in [PLAIN | feature::QUEUES, feature::ALL] {
        let machine = Machine::new();
        let pool = machine.pool(32 << 20);
        let model = VirtioNetModel::new(machine.bus(), MAC).with_pairs(2).with_features(features);
        let options = CardOptions { pairs_max: 2, ..CardOptions::one(CoreId::BOOT) };
        let opening = Opening::new(model.device(), &pool, &ticking(), options).unwrap();
        let plan = opening.plan().unwrap();
        let before = pool.stats().bytes_free;
        let pair = plan.make(&pool).unwrap();
        let taken = before - pool.stats().bytes_free;
        // The queues themselves come on top.
        assert!((plan.bytes()..plan.bytes() + (64 << 10)).contains(&taken), "{taken} bytes");
        assert!(plan.bytes() < 4 << 20);
        drop(pair);
        assert_eq!(pool.stats().bytes_free, before);
    }
}

#[test]
fn a_smaller_mtu_can_be_wanted_but_no_larger_one_than_the_cards() {
    let opened = |features, mtu| {
        let (model, pool) = machine();
        let model = model.with_features(features).with_mtu(4000);
        let options = CardOptions { mtu: Some(mtu), ..CardOptions::one(CoreId::BOOT) };
        let opening = Opening::new(model.device(), &pool, &ticking(), options)?;
        let (net, _) = opening.finish(&pool, &ticking())?;
        Ok::<_, BringUpError>((model, net))
    };
    for (features, mtu) in [(feature::ALL, 4000), (feature::ALL, 68), (PLAIN, 9000), (PLAIN, 1400)]
    {
        let (model, mut net) = opened(features, mtu).unwrap();
        assert_eq!(net.mtu(), usize::from(mtu));
        let most = net.large_send_max(crate::IpVersion::V4);
        let cuts = features == feature::ALL && mtu >= 576;
        assert_eq!(most > usize::from(mtu), cuts);
        // Those that come may be as large as before.
        model.inject(frame(1500));
        assert_eq!(whole(&net.receive().unwrap()), frame(1500));
    }
    let error = opened(feature::ALL, 4001).err().unwrap();
    assert_eq!(error, BringUpError::MtuTooLarge { wanted: 4001, card: 4000 });
    let text = std::format!("{error}");
    assert!(text.contains("4001") && text.contains("4000") && text.contains("or less"), "{text}");
}
