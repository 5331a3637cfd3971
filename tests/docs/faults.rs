//! The page of the fault matrix, which comes from the cells of the tests.

use crate::generated::check;

#[path = "../it/faults/beside.rs"]
#[allow(dead_code, reason = "the tests that run the cells use the rest")]
mod beside;
#[path = "../it/faults/plan.rs"]
#[allow(dead_code, reason = "the tests that run the cells use the rest")]
mod plan;

#[test]
fn fault_matrix() {
    let (points, faults) = (plan::points().len(), plan::Fault::ALL.len());
    let count = format!(
        "{points} failpoints and {faults} faults, {} cells that promise something.\n",
        plan::cells().len()
    );
    let parts = [
        ("count".to_owned(), count),
        ("matrix".to_owned(), plan::table()),
        ("peers".to_owned(), beside::peers()),
        ("children".to_owned(), beside::children()),
    ];
    check("docs/reference/faults.md", &parts);
}
