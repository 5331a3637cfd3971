//! Reconfigurations by `/configure`, and refreshes of a file that has changed or not.

use reqwest::StatusCode;

use super::{Round, Tally};
use crate::world::World;

/// A thousand in ten minutes.
const CONFIGURATIONS: usize = 25;
/// 200 in ten minutes.
const REFRESHES: usize = 5;

/// One after the other: while one is at work others are refused.
pub async fn run(world: &World, round: Round, tally: &Tally) {
    for number in 0..CONFIGURATIONS {
        let number = round.number * CONFIGURATIONS + number;
        // Some look at the catalog, too.
        configure(world, number, !number.is_multiple_of(5), tally).await;
        if number.is_multiple_of(CONFIGURATIONS / REFRESHES) {
            refresh(world, number, tally).await;
        }
    }
}

async fn configure(world: &World, number: usize, skips_catalog: bool, tally: &Tally) {
    let body = world.config(number, skips_catalog);
    loop {
        let (code, answer) = world.compute.post("/configure", Some(&body)).await;
        match code {
            StatusCode::OK => break,
            // A new certificate is being put in force.
            StatusCode::PRECONDITION_FAILED => {
                tally.add("reconfigurations refused, tried again", 1)
            }
            _ => panic!("/configure answered {code}: {answer}"),
        }
        world.compute.until_status("running").await;
    }
    tally.add("reconfigurations", 1);
}

async fn refresh(world: &World, number: usize, tally: &Tally) {
    // Every other file is the one that is in force.
    let document = world.config(number + number % 2, true);
    world.machine.bed.write("config.json", &document);
    let url = format!("{}/refresh_configuration", world.compute.internal);
    loop {
        world.compute.until_status("running").await;
        let answer = world.compute.http.post(&url).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => break,
            // A new certificate is being put in force.
            StatusCode::INTERNAL_SERVER_ERROR => tally.add("refreshes refused, tried again", 1),
            code => panic!("/refresh_configuration answered {code}"),
        }
    }
    world.compute.until_status("running").await;
    tally.add("refreshes", 1);
}
