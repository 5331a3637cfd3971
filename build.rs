//! Compiles `proto/page_api.proto`. No `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/page_api.proto");
    let files = protox::compile(["page_api.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // The transports are chosen where they are used.
        .build_transport(false)
        // Slices of the received buffer instead of copies of it.
        .bytes(".page_api.GetBaseBackupResponseChunk")
        .compile_fds(files)?;
    Ok(())
}
