//! Prewarms and offloads, certificates, agents, and a log that floods.

use super::{Round, Tally};
use crate::support::assertions::until;
use crate::support::bed::{Pair, served};
use crate::vm_monitor::agent::Agent;
use crate::world::World;

const AGENTS: usize = 4;
/// For one growth.
const TRIES: usize = 3;
/// Messages of a flood.
const MESSAGES: usize = 2000;
/// Bytes of the last message, more than the program keeps of a line.
const LONG: usize = 2 << 20;

/// An offload and a prewarm of it.
pub async fn caches(world: &World, tally: &Tally) {
    for (path, name) in [("/lfc/offload", "offloads"), ("/lfc/prewarm", "prewarms")] {
        let (code, answer) = world.compute.post(path, None).await;
        assert_eq!(code.as_u16(), 202, "{path}: {answer}");
        until(name, || async {
            let (_, state) = world.compute.get(path).await;
            assert_ne!(state["status"], "failed", "{path}: {state}");
            state["status"] == "completed"
        })
        .await;
        tally.add(name, 1);
    }
}

/// A new key and certificate, until Postgres presents it.
pub async fn renewal(world: &World, tally: &Tally) {
    let pair = Pair::new();
    world.tls.put_pair(&pair);
    served(&world.compute, &world.machine.bed, &pair).await;
    tally.add("certificates", 1);
}

/// Agents that come, grow the machine, and go: with a close frame, without one, or because the next
/// one takes their place.
pub async fn agents(world: &World, round: Round, tally: &Tally) {
    let mut last = None;
    for number in 0..AGENTS {
        let mut agent = Agent::connect(world.machine.port).await;
        agent.is_served(2).await;
        let mib = if (round.number + number).is_multiple_of(2) { 2148 } else { 4096 };
        grow(&mut agent, mib, tally).await;
        tally.add("agents", 1);
        match number % 3 {
            0 => agent.socket.close(None).await.unwrap(),
            1 => drop(agent),
            _ => last = Some(agent),
        }
    }
    drop(last);
}

/// As an autoscaler does it: what took too long, on a busy machine, is asked for again.
async fn grow(agent: &mut Agent, mib: u64, tally: &Tally) {
    for id in (4..).step_by(2).take(TRIES) {
        agent.notify(mib, id).await;
        let answer = agent.answer(id).await;
        if answer["type"] == "UpscaleConfirmation" {
            return;
        }
        assert_eq!(answer["type"], "InternalError", "{answer}");
        println!("asked again: {answer}");
        tally.add("growths that were asked for again", 1);
    }
    panic!("the machine could not grow");
}

/// The last message of a flood.
pub const FLOOD_IS_OVER: &str = "the flood is over";

/// Messages of Postgres, most of two lines, one very long.
pub async fn log_flood(world: &World, tally: &Tally) {
    let flood = format!(
        "DO $$ BEGIN
            FOR number IN 1..{MESSAGES} LOOP
                RAISE LOG E'flood %\\n%', number, repeat('x', 200);
            END LOOP;
            RAISE LOG '%', repeat('y', {LONG});
            RAISE LOG '{FLOOD_IS_OVER}';
        END $$"
    );
    world.compute.sql().await.batch_execute(&flood).await.unwrap();
    tally.add("messages of Postgres", MESSAGES + 2);
}
