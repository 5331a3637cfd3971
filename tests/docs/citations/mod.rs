//! The documents of the tree are consistent: citations and links have a target, and an obligation
//! of the contract that no test cites is marked as such.

mod contract;
mod links;
mod obligations;
mod reference;
mod tree;

use contract::Contract;
use reference::references;

/// A heading, a row or a number that is cited in sources, tests or documents exists.
#[test]
fn every_reference_resolves() {
    let contract = Contract::read();
    let (mut elsewhere, mut among_themselves, mut unresolved) = (0, 0, Vec::new());
    for file in tree::citing() {
        let own = file.own_document();
        for (line, it) in references(&file.text, own) {
            *(if own.is_some() { &mut among_themselves } else { &mut elsewhere }) += 1;
            if !contract.has(&it) {
                unresolved.push(format!("{}:{line}: {it}", file.name));
            }
        }
    }
    println!("{elsewhere} references from outside, {among_themselves} among the documents");
    assert!(
        elsewhere > 500 && among_themselves > 300,
        "the search is broken: it finds {elsewhere} references from outside, {among_themselves} \
         among the documents"
    );
    assert!(unresolved.is_empty(), "no such heading or row:\n{}", unresolved.join("\n"));
}

/// A link between documents leads to a file, and its anchor to a heading of it.
#[test]
fn every_link_leads_somewhere() {
    let files = tree::documents();
    let broken: Vec<_> = files.iter().flat_map(links::broken).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// "No test cites this section." appears exactly where it is true.
#[test]
fn untested_obligations_are_marked() {
    let contract = Contract::read();
    let cited = obligations::cited_by_tests(&contract);
    assert!(cited.len() > 80, "the search is broken: tests cite {} sections", cited.len());
    let wrong = obligations::wrongly_marked(&contract, &cited);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
