//! Drops logical replication subscriptions: those of deleted databases, and, exactly once, those
//! that a timeline inherited (05 §7.1, §7.9c, §7.14, §12).
//!
//! The inherited subscriptions are listed in a table before the first is dropped, and the list is
//! deleted when the timeline is marked. The next run finishes an interrupted one: it drops only
//! the subscriptions on the list, and none that users have created since.

use super::super::snapshot::DatabaseRow;
use super::super::trust::{Use, trusted_table};
use super::{Action, CatalogStep, Chain, ObjectKind, Operation, Planner, Stage};
use crate::sql::quote::literal;
use crate::sql::shown;

/// `@WHICH@` is a further condition.
const DROP: &str = include_str!("../sql/drop_subscriptions.sql");

impl Planner<'_> {
    /// Lists the inherited subscriptions before anything is dropped.
    pub(super) fn remember_subscriptions(&mut self) -> Vec<Operation> {
        if !self.wanted.spec.drop_subscriptions_before_start || self.state.subscriptions_done {
            return Vec::new();
        }
        if let Some(todo) = &self.state.subscriptions_todo {
            self.inherited = Some(todo.clone());
            return Vec::new();
        }
        let all: Vec<u32> =
            self.state.subscriptions.iter().map(|subscription| subscription.oid).collect();
        let numbers = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        self.inherited = Some(all);
        let mut operations = self.neon_schema();
        let (phase, table) = (
            CatalogStep::RememberSubscriptions,
            (ObjectKind::Table, "neon.drop_subscriptions_todo"),
        );
        let reason = "these are inherited, later ones are not";
        let create = "CREATE TABLE IF NOT EXISTS neon.drop_subscriptions_todo \
                      (timeline_id pg_catalog.text NOT NULL, \
                       subscriptions pg_catalog.oid[] NOT NULL)";
        let record = format!(
            "DO $record$ BEGIN \n{}\n \
             DELETE FROM neon.drop_subscriptions_todo; \
             INSERT INTO neon.drop_subscriptions_todo (timeline_id, subscriptions) \
             VALUES ({}, '{{{numbers}}}'); END $record$",
            trusted_table("neon", "drop_subscriptions_todo", Use::Write),
            literal(self.wanted.timeline)
        );
        operations.extend([
            self.op(phase, Action::Create, table, reason, create.to_owned()),
            self.op(phase, Action::Record, table, reason, record),
        ]);
        operations
    }

    /// Phase 1. Postgres refuses to drop a database that has subscriptions.
    pub(super) fn pre_drop(&mut self, overtaken: &[bool]) -> Stage {
        let mut stage = Stage::new();
        for (delta, &overtaken) in self.wanted.all_deltas().iter().zip(overtaken) {
            let name = delta.name.as_str();
            if delta.action != "delete_db" || overtaken {
                continue;
            }
            let Some(database) = self.state.databases.get(name) else { continue };
            let connectable = database.connectable();
            let before = self.state.subscriptions.len();
            self.state.subscriptions.retain(|subscription| subscription.database != name);
            if self.state.subscriptions.len() == before {
                continue;
            }
            if connectable {
                let drop = self.drop_subscriptions(
                    CatalogStep::PreDrop,
                    name,
                    "it is going to be deleted",
                    "",
                );
                stage.extend(Chain::of(vec![drop]));
            } else {
                self.remarks.push(format!(
                    "subscriptions of database {name:?} cannot be dropped: it does not accept \
                     connections"
                ));
            }
        }
        stage
    }

    /// Phase 9c for one database.
    pub(super) fn drop_inherited(&self, database: &str) -> Vec<Operation> {
        let numbers: Vec<String> = self.inherited_in(database).map(|oid| oid.to_string()).collect();
        if numbers.is_empty() {
            return Vec::new();
        }
        let which = format!(
            "AND s.oid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])",
            numbers.join(", ")
        );
        let reason = "drop_subscriptions_before_start";
        vec![self.drop_subscriptions(CatalogStep::InsideDatabases, database, reason, &which)]
    }

    fn inherited_in(&self, database: &str) -> impl Iterator<Item = u32> {
        let inherited = self.inherited.as_deref().unwrap_or_default();
        let here = self.state.subscriptions.iter().filter(move |s| s.database == database);
        here.map(|subscription| subscription.oid).filter(move |oid| inherited.contains(oid))
    }

    /// Databases that have inherited subscriptions, sorted.
    pub(super) fn databases_with_inherited(&self) -> Vec<String> {
        let databases = self.state.databases.keys();
        let mut with: Vec<String> =
            databases.filter(|name| self.inherited_in(name).next().is_some()).cloned().collect();
        with.sort_unstable();
        with
    }

    fn drop_subscriptions(
        &self,
        phase: CatalogStep,
        database: &str,
        reason: &str,
        which: &str,
    ) -> Operation {
        let object = (ObjectKind::Database, shown(database));
        let sql = DROP.replace("@WHICH@", which);
        let drop = self.op(phase, Action::DropSubscriptions, object, reason, sql);
        Operation { database: database.into(), ..drop }
    }

    /// Phase 14, when all inherited subscriptions are dropped.
    pub(super) fn record_subscriptions(&mut self) -> Vec<Operation> {
        if self.inherited.is_none() {
            return Vec::new();
        }
        let out_of_reach: Vec<String> = self
            .databases_with_inherited()
            .into_iter()
            .filter(|name| !self.state.databases.get(name).is_some_and(DatabaseRow::connectable))
            .collect();
        if !out_of_reach.is_empty() {
            let out_of_reach: Vec<&str> = out_of_reach.iter().map(|name| shown(name)).collect();
            self.remarks.push(format!(
                "inherited subscriptions are left in {out_of_reach:?}, which do not accept \
                 connections; the next apply tries again"
            ));
            return Vec::new();
        }
        let (phase, table) =
            (CatalogStep::RecordSubscriptions, (ObjectKind::Table, "neon.drop_subscriptions_done"));
        let reason = "inherited subscriptions are gone";
        let create = "CREATE TABLE IF NOT EXISTS neon.drop_subscriptions_done \
            (id pg_catalog.int4 PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, \
             timeline_id pg_catalog.text)";
        let record = format!(
            "DO $record$ BEGIN \n{}\n \
             INSERT INTO neon.drop_subscriptions_done (id, timeline_id) \
             VALUES (1, pg_catalog.current_setting('neon.timeline_id')) \
             ON CONFLICT (id) DO UPDATE SET timeline_id = EXCLUDED.timeline_id; END $record$",
            trusted_table("neon", "drop_subscriptions_done", Use::Write)
        );
        let todo = (ObjectKind::Table, "neon.drop_subscriptions_todo");
        let forget = "DROP TABLE IF EXISTS neon.drop_subscriptions_todo";
        vec![
            self.op(phase, Action::Create, table, reason, create.to_owned()),
            self.op(phase, Action::Record, table, reason, record),
            self.op(phase, Action::Drop, todo, reason, forget.to_owned()),
        ]
    }
}
