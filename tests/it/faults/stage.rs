//! Brings a compute to a point and holds it there.

use compute_ctl::dev::servers::Server;
use compute_ctl::driver::steps::ReconfigurePhase;
use compute_ctl::node::phase::StartPhase;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::disk::SmallDisk;
use super::memory::MemoryGroup;
use super::plan::{Fault, Point, Step};
use crate::support::bed::{Bed, Pair, TlsFiles, hand_over, put};
use crate::support::process::{Compute, Replica};
use crate::support::server::Vanilla;

/// The answer to a request; none if the connection broke.
pub type Answer = Option<(StatusCode, Value)>;

/// A compute that is held at a point.
pub struct Stage {
    pub point: Point,
    /// Of the data directory. Before the bed, whose folder it is in.
    pub disk: Option<SmallDisk>,
    pub bed: Bed,
    pub compute: Compute,
    /// Of the compute. After it, which is in it.
    pub memory: Option<MemoryGroup>,
    /// The request that asked for the work.
    pub asked: Option<JoinHandle<Answer>>,
    /// Of a replica.
    pub primary: Option<Vanilla>,
    pub files: Option<TlsFiles>,
    /// Whether the kernel has killed the compute for its memory.
    pub killed: bool,
    /// The LSN that a promotion waits for.
    pub lsn: String,
}

impl Stage {
    /// `actions` of the failpoint; `pause` holds the compute until [`Self::release`]. Returns when
    /// the failpoint was reached. Postgres is a fake that costs nothing, unless the step needs SQL or
    /// the next start has to recognize a postmaster by its program.
    pub async fn set(
        server: Server,
        point: Point,
        actions: &str,
        env: &[(&str, &str)],
        fault: Fault,
    ) -> Self {
        let points = format!("{point}={actions}");
        let mut env = env.to_vec();
        env.push(("FAILPOINTS", &points));
        let mut stage = match point.step {
            Step::Promote(_) => Self::replica(server, point, &env).await,
            _ => Self::primary(server, point, &env, fault).await,
        };
        if fault == Fault::OutOfMemory {
            let memory = MemoryGroup::new().unwrap();
            memory.take(stage.compute.pid());
            stage.memory = Some(memory);
        }
        stage.ask().await;
        stage.compute.wait_for_log(&format!("failpoint {point} reached")).await;
        stage
    }

    async fn primary(server: Server, point: Point, env: &[(&str, &str)], fault: Fault) -> Self {
        let mut bed = Bed::new(server).await;
        let disk = (fault == Fault::DiskFull).then(|| {
            bed.place_pgdata("disk/pgdata");
            SmallDisk::at(bed.dir().join("disk"))
        });
        match point.step {
            // Only a server knows SQL.
            Step::Start(StartPhase::ApplyCatalog) => bed.spec.skip_pg_catalog_updates = false,
            Step::Reconfigure(ReconfigurePhase::Catalog) => {}
            _ if matches!(fault, Fault::SupervisorKilled | Fault::OutOfMemory) => {}
            _ => bed.fake_postgres(),
        }
        match point.step {
            Step::Start(StartPhase::StaleProcesses) => {
                std::fs::create_dir(bed.pgdata()).unwrap();
                hand_over(&bed.pgdata());
                put(&bed.pgdata().join("PG_VERSION"), "17\n");
                put(&bed.pgdata().join("postmaster.pid"), "1\n");
            }
            Step::Start(StartPhase::SafekeeperSync) => {
                bed.safekeepers[0].behave(|safekeeper| safekeeper.flush_lsn += 8);
            }
            _ => {}
        }
        let files = matches!(point.step, Step::Reconfigure(ReconfigurePhase::Certificate));
        let files = files.then(|| TlsFiles::new(&bed));
        if files.is_some() {
            bed.spec.member("features", json!(["tls_experimental"]));
        }
        let compute = match &files {
            Some(files) => {
                files.put_pair(&Pair::new());
                let config = bed.write("config.json", &files.config(&bed)).display().to_string();
                let args = ["--compute-id", "c1", "--config", &config].map(str::to_owned);
                Compute::spawn(&bed, &[bed.base_args(), args.to_vec()].concat(), env)
            }
            None => bed.start_with_env(env),
        };
        let (killed, lsn) = (false, String::new());
        Self {
            point,
            disk,
            bed,
            compute,
            memory: None,
            asked: None,
            primary: None,
            files,
            killed,
            lsn,
        }
    }

    async fn replica(server: Server, point: Point, env: &[(&str, &str)]) -> Self {
        let replica = Replica::start_with_env(server, env).await;
        replica.compute.prewarm().await;
        let lsn = replica.flushed().await;
        let Replica { bed, compute, primary, storage: _ } = replica;
        let primary = Some(primary);
        let (disk, memory, files, killed) = (None, None, None, false);
        Self { point, disk, bed, compute, memory, asked: None, primary, files, killed, lsn }
    }

    /// Asks for the work of the point.
    async fn ask(&mut self) {
        match self.point.step {
            Step::Start(_) => {}
            Step::Reconfigure(phase) => {
                self.compute.wait_for("running").await;
                self.bed.spec.set("work_mem", "8MB");
                match phase {
                    ReconfigurePhase::Fetch => {
                        self.bed.write("config.json", &self.bed.spec.config());
                        self.compute.refresh().await;
                    }
                    ReconfigurePhase::Certificate => {
                        self.files.as_ref().unwrap().put_pair(&Pair::new());
                    }
                    phase => {
                        self.bed.spec.skip_pg_catalog_updates = phase != ReconfigurePhase::Catalog;
                        self.asked = Some(self.post("/configure", Some(self.bed.configure_body())));
                    }
                }
            }
            Step::Promote(_) => {
                let body = self.bed.promote_body(&self.lsn);
                self.asked = Some(self.post("/promote", Some(body)));
            }
            Step::Ending(_) => {
                self.compute.wait_for("running").await;
                self.asked = Some(self.post("/terminate?mode=immediate", None));
            }
        }
    }

    /// Sends a request beside the others.
    pub fn post(&self, path: &str, body: Option<Value>) -> JoinHandle<Answer> {
        let server = match path {
            "/refresh_configuration" => &self.compute.internal,
            _ => &self.compute.external,
        };
        let mut request = self.compute.http.post(format!("{server}{path}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        tokio::spawn(async move {
            let response = request.send().await.ok()?;
            let code = response.status();
            let text = response.text().await.ok()?;
            Some((code, serde_json::from_str(&text).unwrap_or(Value::String(text))))
        })
    }

    /// Lets the held step go on, unless the process has ended.
    pub async fn release(&self) {
        let off = json!([{"name": self.point.to_string(), "actions": "off"}]);
        let request = self.compute.http.post(format!("{}/failpoints", self.compute.internal));
        let request = request.header("content-type", "application/json").body(off.to_string());
        if let Ok(answer) = request.send().await {
            assert_eq!(answer.status(), 200, "{}", self.compute.log());
        }
    }

    /// The status, unless the process has ended.
    pub async fn status(&self) -> Option<String> {
        let (_, document) = self.compute.try_get("/status").await?;
        document["status"].as_str().map(str::to_owned)
    }
}
