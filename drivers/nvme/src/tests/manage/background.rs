//! Self-tests and sanitizing, which go on by themselves.

use basalt_nvme_spec::log_page::{SanitizeStatus, SelfTestResult};

use super::*;

fn steps(bench: &Bench, count: u32) {
    (0..count).for_each(|_| bench.model.step());
}

#[test]
fn a_self_test_goes_on_by_itself_and_its_result_is_kept() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    let begin = |nsid, test| bench.run(controller.self_test(nsid, test));
    let log = || bench.run(controller.self_test_log()).unwrap();
    assert_eq!((log().current, log().results[0].outcome()), (0, SelfTestResult::UNUSED));
    begin(NSID_ALL, SelfTest::Short).unwrap();
    expect(begin(0, SelfTest::Extended), Status::SELF_TEST_IN_PROGRESS);
    steps(&bench, 50);
    let now = log();
    assert!(now.current == 1 && (50..100).contains(&now.completion), "{}", now.completion);
    steps(&bench, 50);
    let ended = log().results[0];
    assert_eq!((ended.outcome(), ended.code()), (SelfTestResult::PASSED, 1));
    begin(2, SelfTest::Extended).unwrap();
    begin(2, SelfTest::Abort).unwrap();
    let ended = log().results[0];
    assert_eq!((ended.outcome(), ended.code()), (SelfTestResult::ABORTED, 2));
    expect(begin(77, SelfTest::Short), Status::INVALID_NAMESPACE);
}

fn block_erase() -> Sanitize {
    Sanitize {
        action: SanitizeAction::BlockErase,
        on_failure: OnFailure::Restricted,
        deallocation: Deallocation::After,
    }
}

#[test]
fn all_io_fails_until_a_sanitize_operation_is_done_and_everything_is_gone() {
    let mut ready = Ready::new(managed(|_| ()), 32);
    let data = ready.bench.buffers(&[512], 0x5a);
    assert!(ready.write(7, data).is_success());
    let status = |ready: &Ready| ready.bench.run(ready.controller.sanitize_status()).unwrap();
    assert_eq!(status(&ready).state(), SanitizeStatus::NEVER);
    ready.bench.run(ready.controller.sanitize(block_erase())).unwrap();
    assert_eq!(status(&ready).state(), SanitizeStatus::IN_PROGRESS);
    assert!(status(&ready).progress.get() < 0xffff);
    assert!(ready.read(7, &[512]).1.is(Status::SANITIZE_IN_PROGRESS));
    let target = FormatTarget::Namespace(2);
    let format = ready.controller.format(target, BlockFormat::Index(0), FormatSettings::default());
    expect(ready.bench.run(format), Status::SANITIZE_IN_PROGRESS);
    ready.bench.run(ready.controller.see_to_events()).unwrap();
    steps(&ready.bench, 200);
    let events = ready.bench.run(ready.controller.see_to_events()).unwrap();
    assert!(events.sanitized);
    assert_eq!(status(&ready).state(), SanitizeStatus::DONE);
    assert_eq!(ready.read(7, &[512]).0, [0; 512]);
}

#[test]
fn a_sanitize_operation_goes_on_through_a_reset() {
    let ready = Ready::new(managed(|config| config.steps = 100_000), 32);
    ready.bench.run(ready.controller.sanitize(block_erase())).unwrap();
    ready.bench.run(ready.controller.restart()).unwrap();
    let status = ready.bench.run(ready.controller.sanitize_status()).unwrap();
    assert_eq!(status.state(), SanitizeStatus::IN_PROGRESS);
}

#[test]
fn an_overwrite_that_keeps_its_blocks_leaves_the_pattern() {
    let bench = Bench::new(managed(|_| ()));
    let controller = bench.controller(Options::default());
    let overwrite = |passes| {
        let passes = OverwritePasses { pattern: 0x0403_0201, passes, inverted: Inverted::No };
        let action = SanitizeAction::Overwrite(passes);
        Sanitize { action, deallocation: Deallocation::No, ..block_erase() }
    };
    for passes in [0, 17] {
        let refused = bench.run(controller.sanitize(overwrite(passes)));
        assert_eq!(refused, Err(AdminError::BadArgument));
    }
    bench.run(controller.sanitize(overwrite(16))).unwrap();
    steps(&bench, 200);
    assert_eq!(bench.model.contents(9, 255, 8), [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[test]
fn sanitizing_in_a_way_that_the_controller_does_not_know_is_not_asked_for() {
    let methods = SanitizeCapabilities::CRYPTO_ERASE | SanitizeCapabilities::ALWAYS_DEALLOCATES;
    let bench = Bench::new(managed(|config| config.sanicap = methods));
    let controller = bench.controller(Options::default());
    let crypto = Sanitize { action: SanitizeAction::CryptoErase, ..block_erase() };
    let kept = Sanitize { deallocation: Deallocation::No, ..crypto };
    for sanitize in [block_erase(), kept] {
        let refused = bench.run(controller.sanitize(sanitize));
        assert_eq!(refused, Err(AdminError::Unsupported), "{sanitize:?}");
    }
    let exit = Sanitize { action: SanitizeAction::ExitFailure, ..crypto };
    assert_eq!(bench.run(controller.sanitize(exit)), Ok(()));
    assert_eq!(bench.run(controller.sanitize(crypto)), Ok(()));
}
