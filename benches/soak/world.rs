//! The compute of the run: a primary on stand-in storage in a stand-in for a virtual machine, with
//! TLS, a stored file cache, and a folder of its own for temporary files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{
    CACHE_FUNCTIONS, Pair, TlsFiles, compressed_cache, hand_over, names, use_storage,
};
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Compute;
use crate::support::server::servers;
use crate::vm_monitor::machine::Machine;
use nix::sys::signal::Signal;

/// Of a request, each over a new connection.
const TRIES: u32 = 10;
/// Changed by each reconfiguration.
const SETTING: &str = "app.round";

pub struct World {
    pub machine: Machine,
    pub compute: Compute,
    pub tls: TlsFiles,
    pub storage: HttpStub,
    /// The whole configuration; each reconfiguration changes a copy.
    config: Value,
    temp: PathBuf,
}

impl World {
    pub async fn start() -> Self {
        let server = servers().iter().max_by_key(|server| server.major).unwrap().clone();
        let mut machine = Machine::new(server).await;
        let storage = HttpStub::start(Reply::Answer(200, compressed_cache())).await;
        use_storage(&mut machine.bed, &storage.address);
        machine.bed.spec.member("features", json!(["tls_experimental"])).set(SETTING, "none");
        machine.bed.spec.role("soak", None).database("soak", "soak");
        let tls = TlsFiles::new(&machine.bed);
        tls.put_pair(&Pair::new());
        let temp = machine.bed.dir().join("temp");
        fs::create_dir(&temp).unwrap();
        hand_over(&temp);

        let config = tls.config(&machine.bed);
        let args = machine.args();
        // Instead of the file without TLS that the arguments name.
        machine.bed.write("config.json", &config);
        let mut env: Vec<_> = machine.env().into();
        env.push(("RUST_LOG", "info".to_owned()));
        env.push(("TMPDIR", temp.display().to_string()));
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut compute = Compute::spawn(&machine.bed, &args, &env);
        // A connection may be closed to make room for others while it is idle, and before its request
        // has come.
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let again =
            reqwest::retry::for_host("127.0.0.1").no_budget().max_retries_per_request(TRIES);
        let again = again.classify_fn(|answer| match answer.error() {
            Some(_) => answer.retryable(),
            None => answer.success(),
        });
        compute.http = client.timeout(Duration::from_secs(60)).retry(again).build().unwrap();
        compute.wait_for("running").await;
        compute.wait_for_log("the VM monitor is listening on 127.0.0.1:").await;
        let sql = compute.sql().await;
        sql.batch_execute(CACHE_FUNCTIONS).await.unwrap();
        let cache = "UPDATE neon.behaviour SET state = convert_to('some cache', 'UTF8')";
        sql.batch_execute(cache).await.unwrap();
        Self { machine, compute, tls, storage, config, temp }
    }

    /// The configuration with another value of the setting.
    pub fn config(&self, number: usize, skips_catalog: bool) -> Value {
        let mut config = self.config.clone();
        let spec = &mut config["spec"];
        spec["skip_pg_catalog_updates"] = json!(skips_catalog);
        let settings = spec["cluster"]["settings"].as_array_mut().unwrap();
        let setting = settings.iter_mut().find(|setting| setting["name"] == SETTING).unwrap();
        setting["value"] = json!(number.to_string());
        config
    }

    /// Where leftovers would be.
    pub fn folders(&self) -> [PathBuf; 4] {
        let dir = self.machine.bed.dir();
        [self.machine.bed.pgdata(), dir.to_owned(), self.tls.dir.clone(), self.temp.clone()]
    }

    /// Ends the compute, which must be well and must leave nothing.
    pub async fn end(mut self) {
        self.compute.until_status("running").await;
        assert_eq!(self.compute.stop(Signal::SIGTERM).await, 1, "the exit code after SIGTERM");
        assert_nothing_left(&self.machine.bed);
        assert_eq!(names(&self.temp), [""; 0], "temporary files are left");
    }
}
