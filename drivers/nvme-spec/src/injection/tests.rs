use super::*;

const READ: u8 = 2;
const STATUS: Status = Status::UNRECOVERED_READ;

fn error(fate: Fate, count: u32) -> InjectedError {
    InjectedError { opcode: READ, fate, count, status: STATUS }
}

#[test]
fn an_error_is_for_so_many_commands_of_its_opcode() {
    let mut errors = InjectedErrors::default();
    errors.change(ErrorChange::Add(error(Fate::Submitted, 2)));
    for _ in 0..2 {
        assert_eq!(errors.find(READ + 1), None);
        assert_eq!(errors.find(READ).map(|error| error.status), Some(STATUS));
        errors.count(READ);
    }
    assert!(errors.is_empty());
    errors.change(ErrorChange::Add(error(Fate::Submitted, 0)));
    assert!(errors.is_empty(), "for none");
}

#[test]
fn there_is_one_error_for_an_opcode() {
    let mut errors = InjectedErrors::default();
    errors.change(ErrorChange::Add(error(Fate::Submitted, 9)));
    errors.change(ErrorChange::Add(InjectedError { opcode: 1, ..error(Fate::Submitted, 1) }));
    let last = error(Fate::Held(Duration::from_secs(1)), 1);
    errors.change(ErrorChange::Add(last));
    assert_eq!(errors.find(READ), Some(last));
    errors.change(ErrorChange::Remove(READ));
    assert!(errors.find(READ).is_none() && errors.find(1).is_some());
}

#[test]
fn a_command_is_held_back_from_when_it_is_seen_however_long_that_is() {
    let mut second = Hold::new(STATUS, Duration::from_secs(1));
    assert!(!second.is_over(500) && !second.is_over(1_000_000_499));
    assert!(second.is_over(1_000_000_500));
    assert!(Hold::new(STATUS, Duration::ZERO).is_over(500));
    let mut ever = Hold::new(STATUS, Duration::MAX);
    assert!(!ever.is_over(500) && !ever.is_over(u64::MAX - 1));
}
