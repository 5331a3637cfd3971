//! The model alone: what it allows, and that it does not allow everything.

use compute_ctl::state::ComputeStatus as Status;

use super::belief::Belief;
use super::steps::Quality;
use super::world::{Fetched, Request, Server, Spec, Work, World};

const GOOD: Spec = Spec { number: 1, quality: Quality::Good };
const NEXT: Spec = Spec { number: 2, quality: Quality::Good };

fn running() -> Belief {
    let mut belief = Belief::new(World::new(Server::Stub, Some(GOOD)));
    belief.shows(Status::Running).unwrap();
    belief
}

#[test]
fn a_start_is_init_and_then_running() {
    let mut belief = Belief::new(World::new(Server::Stub, Some(GOOD)));
    assert!(belief.shows(Status::Empty).is_err());
    belief.shows(Status::Init).unwrap();
    belief.shows(Status::Running).unwrap();
    assert!(belief.may_rest_in(Status::Running));
    assert!(belief.shows(Status::Init).is_err());
    assert!(belief.exits(0).is_err() && belief.exits(1).is_err());
}

#[test]
fn a_new_spec_is_answered_when_it_is_in_force() {
    let mut belief = running();
    belief.is_asked(1, Request::Configure(NEXT), false);
    let broken = belief.clone().answers(1, None);
    assert!(broken.is_err(), "nothing ends the compute");
    let refused = belief.clone().answers(1, Some((412, "")));
    assert!(refused.is_err());
    belief.answers(1, Some((200, ""))).unwrap();
    assert!(belief.has_file_of(GOOD.number).is_err());
    belief.has_file_of(NEXT.number).unwrap();
}

#[test]
fn a_spec_that_fails_leaves_the_old_one_in_force() {
    let bad = Spec { number: 2, quality: Quality::Catalog };
    let mut belief = running();
    belief.is_asked(1, Request::Configure(bad), false);
    belief.answers(1, Some((500, "in phase apply_catalog"))).unwrap();
    belief.shows(Status::Failed).unwrap();
    belief.has_file_of(GOOD.number).unwrap();
    belief.is_asked(2, Request::Configure(NEXT), false);
    let wrong = "{\"error\":\"invalid compute status: running\"}";
    assert!(belief.clone().answers(2, Some((412, wrong))).is_err());
    let right = "{\"error\":\"invalid compute status: failed\"}";
    belief.answers(2, Some((412, right))).unwrap();
}

#[test]
fn a_setting_that_the_stub_has_started_with_may_not_be_checked_again() {
    let unknown = Spec { number: 2, quality: Quality::Refused };
    let mut belief = running();
    belief.is_asked(1, Request::Configure(unknown), false);
    assert!(belief.clone().answers(1, Some((200, ""))).is_err());
    belief.answers(1, Some((400, "in phase check_configuration"))).unwrap();
    let mut belief = Belief::new(World::new(Server::Stub, Some(unknown)));
    belief.shows(Status::Running).unwrap();
    belief.is_asked(1, Request::Configure(unknown), false);
    belief.clone().answers(1, Some((400, "in phase check_configuration"))).unwrap();
    belief.answers(1, Some((200, ""))).unwrap();
}

#[test]
fn of_two_specs_at_once_one_is_taken_or_both_in_turn() {
    let mut belief = running();
    let third = Spec { number: 3, quality: Quality::Good };
    belief.is_asked(1, Request::Configure(NEXT), false);
    belief.is_asked(2, Request::Configure(third), false);
    let pending = "\"invalid compute status: configuration-pending\"";
    for (first, second) in [(200, 200), (200, 412), (412, 200)] {
        let mut belief = belief.clone();
        belief.answers(1, Some((first, pending))).unwrap();
        belief.answers(2, Some((second, pending))).unwrap();
        assert_eq!(belief.has_file_of(2).is_ok(), (first, second) != (412, 200));
    }
    belief.answers(1, Some((412, pending))).unwrap();
    assert!(belief.answers(2, Some((412, pending))).is_err());
}

#[test]
fn a_terminated_compute_has_an_lsn_and_ends_with_0() {
    let mut belief = running();
    belief.is_asked(1, Request::Terminate { fast: false }, false);
    assert!(belief.clone().answers(1, Some((200, "{\"lsn\":null}"))).is_err());
    belief.answers(1, Some((200, "{\"lsn\":\"0/1\"}"))).unwrap();
    assert!(belief.shows(Status::Running).is_err());
    assert!(belief.clone().exits(1).is_err());
    belief.exits(0).unwrap();
}

#[test]
fn the_end_of_postgres_and_a_signal_end_the_compute_with_1() {
    let ends: [fn(&mut World); 2] = [|world| world.crashed = true, |world| world.signalled = true];
    for end in ends {
        let mut belief = running();
        belief.happens(end);
        assert!(!belief.may_rest_in(Status::Running));
        assert!(belief.clone().exits(0).is_err());
        belief.exits(1).unwrap();
    }
}

#[test]
fn a_refresh_without_a_spec_ends_the_compute() {
    let mut belief = running();
    belief.is_offered(Fetched::Detached);
    belief.is_asked(1, Request::Refresh, false);
    belief.answers(1, Some((200, ""))).unwrap();
    assert!(!belief.may_rest_in(Status::Running));
    belief.exits(1).unwrap();
}

#[test]
fn a_client_that_hangs_up_may_have_been_heard() {
    let mut belief = running();
    belief.is_asked(1, Request::Configure(NEXT), true);
    assert!(belief.may_rest_in(Status::Running));
    for number in [GOOD.number, NEXT.number] {
        belief.clone().has_file_of(number).unwrap();
    }
    assert!(belief.worlds().all(|world| !matches!(world.work, Work::End(_))));
}
