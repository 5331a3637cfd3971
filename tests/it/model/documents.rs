//! The documents of one life: specs that differ from each other, and the requests that carry them.

use compute_ctl::dev::servers::Server;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::catalog::{Wanted, orphan};
use super::steps::{Asked, Body, Mode, Quality};
use super::world::{self, Request, Spec};
use crate::support::bed::{Bed, Pair, TlsFiles};
use crate::support::process::Compute;

/// The setting that tells one spec from another.
const NUMBER: &str = "app.number";

pub struct Documents {
    pub bed: Bed,
    pub files: TlsFiles,
    kind: world::Server,
    last: Option<(Spec, Value)>,
}

impl Documents {
    pub async fn new(server: Server, kind: world::Server) -> Self {
        let mut bed = Bed::new(server).await;
        if kind == world::Server::Stub {
            bed.fake_postgres();
        }
        bed.spec.skip_pg_catalog_updates = kind == world::Server::Stub;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        files.put_pair(&Pair::new());
        Self { bed, files, kind, last: None }
    }

    pub fn is_real(&self) -> bool {
        self.kind == world::Server::Real
    }

    pub fn last(&self) -> Option<Spec> {
        self.last.as_ref().map(|(spec, _)| *spec)
    }

    /// Makes a spec that differs from all others: in its number, and in turn in a setting, the
    /// address of the storage, its token, roles and databases.
    pub fn another(&mut self, quality: Quality) -> Spec {
        let number = self.last().map_or(1, |spec| spec.number + 1);
        let bed = &mut self.bed;
        bed.spec.set(NUMBER, &number.to_string());
        match number % 5 {
            0 => {
                let twice = format!("{} connect_timeout={number}", keywords(bed));
                bed.spec.pageserver_connstring = twice;
            }
            1 => bed.spec.storage_auth_token = Some(format!("token-{number}")),
            2 => {
                bed.spec.typed("work_mem", &(1024 + number).to_string(), "integer");
            }
            3 => {
                bed.spec.role(&format!("role{number}"), None);
                bed.spec.database(&format!("data{number}"), &format!("role{number}"));
            }
            _ => {
                bed.spec.settings.shift_remove("work_mem");
            }
        }
        let mut document = bed.spec.spec();
        if self.kind == world::Server::Real {
            Wanted::of(number).write(&mut document);
        }
        document["operation_uuid"] = json!(format!("operation-number-{number}-"));
        match quality {
            Quality::Good => {}
            Quality::Refused => {
                let settings = document["cluster"]["settings"].as_array_mut().unwrap();
                settings.push(json!({"name": "work_memory", "value": "1", "vartype": "integer"}));
            }
            Quality::Catalog if self.kind == world::Server::Stub => {
                document["skip_pg_catalog_updates"] = json!(false);
            }
            Quality::Catalog => {
                let databases = document["cluster"]["databases"].as_array_mut().unwrap();
                databases.push(orphan());
            }
        }
        let spec = Spec { number, quality };
        self.last = Some((spec, document));
        spec
    }

    fn spec(&self) -> Value {
        self.last.as_ref().map_or(Value::Null, |(_, document)| document.clone())
    }

    fn body(&self) -> Value {
        json!({"spec": self.spec(), "compute_ctl_config": {"jwks": self.bed.spec.jwks}})
    }

    /// The control plane's answer with the last spec, or without one.
    pub fn control_plane(&self, attached: bool) -> String {
        let mut document = self.files.config(&self.bed);
        document["status"] = json!(if attached { "attached" } else { "empty" });
        document["spec"] = if attached { self.spec() } else { Value::Null };
        document.to_string()
    }

    /// The number in the configuration file of Postgres.
    pub fn number_in_force(&self) -> Option<u32> {
        let path = self.bed.pgdata().join("postgresql.conf");
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(NUMBER))?;
        line.trim_matches(|it: char| !it.is_ascii_digit()).parse().ok()
    }
}

/// The address of the pageserver in the other form, so that it can have more members.
fn keywords(bed: &Bed) -> String {
    let url: tokio_postgres::Config = bed.pageserver.connstring().parse().unwrap();
    let port = url.get_ports().first().copied().unwrap_or(6400);
    format!("host=127.0.0.1 port={port} user=no_user")
}

/// A request, as the model and as the compute gets it.
pub fn question(
    documents: &mut Documents,
    compute: &Compute,
    asked: Asked,
) -> (Request, RequestBuilder) {
    let external = |path: &str| compute.http.post(format!("{}{path}", compute.external));
    let internal = |path: &str| compute.http.post(format!("{}{path}", compute.internal));
    let with = |builder: RequestBuilder, body: String| {
        builder.header("content-type", "application/json").body(body)
    };
    // The stub answers no SQL.
    let done = |code| match documents.kind {
        world::Server::Stub => 500,
        world::Server::Real => code,
    };
    match asked {
        Asked::Configure(body) => {
            let (request, text) = configure(documents, body);
            (request, with(external("/configure"), text))
        }
        Asked::Terminate(Mode::Fast) => (Request::Terminate { fast: true }, external("/terminate")),
        Asked::Terminate(Mode::Immediate) => {
            (Request::Terminate { fast: false }, external("/terminate?mode=immediate"))
        }
        Asked::Terminate(Mode::Unknown) => (Request::Always(400), external("/terminate?mode=slow")),
        Asked::Refresh => (Request::Refresh, internal("/refresh_configuration")),
        Asked::Promote => {
            let body = documents.bed.promote_body("0/1").to_string();
            (Request::Promote, with(external("/promote"), body))
        }
        Asked::Prewarm => (Request::Cache, external("/lfc/prewarm")),
        Asked::Offload => (Request::Cache, external("/lfc/offload")),
        Asked::CancelPrewarm => {
            let url = format!("{}/lfc/prewarm", compute.external);
            (Request::Always(202), compute.http.delete(url))
        }
        Asked::Writability => (Request::InPostgres(done(200)), external("/check_writability")),
        Asked::Insights => {
            let url = format!("{}/insights", compute.external);
            (Request::InPostgres(done(200)), compute.http.get(url))
        }
        Asked::Grants | Asked::ForbiddenGrants => {
            let forbidden = matches!(asked, Asked::ForbiddenGrants);
            let schema = if forbidden { "pg_catalog" } else { "public" };
            let body = json!({
                "database": "postgres", "schema": schema, "privileges": ["USAGE"],
                "role": "pg_monitor"
            });
            let request =
                if forbidden { Request::Forbidden } else { Request::InPostgres(done(201)) };
            (request, with(internal("/grants"), body.to_string()))
        }
        Asked::Extension | Asked::ForbiddenExtension => {
            let forbidden = matches!(asked, Asked::ForbiddenExtension);
            let name = if forbidden { "neon" } else { "plpgsql" };
            let body = json!({"extension": name, "database": "postgres", "version": "1.0"});
            let request =
                if forbidden { Request::Forbidden } else { Request::InPostgres(done(201)) };
            (request, with(internal("/extensions"), body.to_string()))
        }
        Asked::ExtensionFiles => (Request::Always(412), internal("/extension_server/anon")),
        Asked::NoSuchPath => (Request::Always(404), external("/configuration")),
        Asked::WrongMethod => {
            let url = format!("{}/configure", compute.external);
            (Request::Always(405), compute.http.get(url))
        }
    }
}

fn configure(documents: &mut Documents, body: Body) -> (Request, String) {
    let spec = match body {
        Body::New(quality) => documents.another(quality),
        Body::Same => match documents.last() {
            Some(spec) => spec,
            None => documents.another(Quality::Good),
        },
        Body::Malformed => return (Request::Always(400), "{".to_owned()),
        Body::Unusable | Body::WrongShape => {
            let mut spec = documents.bed.spec.spec();
            let unusable = matches!(body, Body::Unusable);
            spec["tenant_id"] = if unusable { Value::Null } else { json!("1".repeat(31)) };
            let config = json!({"jwks": documents.bed.spec.jwks});
            let body = json!({"spec": spec, "compute_ctl_config": config});
            return (Request::Always(if unusable { 400 } else { 422 }), body.to_string());
        }
    };
    (Request::Configure(spec), documents.body().to_string())
}
