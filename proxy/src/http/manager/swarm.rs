//! The swarm that pgherd runs in, as its docker engine tells it. Nothing but GET is sent.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the engine may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const LONGEST: usize = 8 * 1024 * 1024;

/// Services, nodes and tasks.
pub(super) async fn swarm(socket: Option<&Path>) -> Json {
    let Some(socket) = socket else {
        return none(
            "pgherd was given no docker socket: http.docker_socket names one, of a manager of the swarm",
        );
    };
    let asked = async {
        let (services, nodes, tasks) = tokio::try_join!(
            get(socket, "/services?status=true"),
            get(socket, "/nodes"),
            get(socket, "/tasks")
        )?;
        Ok::<_, String>(shown(&services, &nodes, &tasks))
    };
    match timeout(WITHIN, asked).await {
        Ok(Ok(shown)) => shown,
        Ok(Err(why)) => none(&why),
        Err(_) => none("the docker engine does not answer"),
    }
}

fn none(why: &str) -> Json {
    json!({ "available": false, "why_not": why, "services": [], "nodes": [], "tasks": [] })
}

async fn get(socket: &Path, path: &str) -> Result<Json, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{}: {what}: {error}", socket.display());
    let stream = UnixStream::connect(socket).await.map_err(|error| failed("cannot connect", &error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed("it speaks no HTTP", &error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "docker").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed("no request", &error))?;
    let response = sender.send_request(request).await.map_err(|error| failed("no answer", &error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    connection.abort();
    let body = body.map_err(|error| failed("no whole answer", &error))?.to_bytes();
    let answer: Json = serde_json::from_slice(&body).map_err(|error| failed("no answer in JSON", &error))?;
    if status != StatusCode::OK {
        let why = answer.get("message").and_then(Json::as_str).unwrap_or("it refuses");
        return Err(failed(status.as_str(), &why.lines().next().unwrap_or_default()));
    }
    Ok(answer)
}

fn all(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

/// What stands at these names, one in the other.
fn at<'a>(object: &'a Json, path: &str) -> &'a Json {
    object.pointer(path).unwrap_or(&Json::Null)
}

fn shown(services: &Json, nodes: &Json, tasks: &Json) -> Json {
    let name_of = |list: &Json, id: &Json, path: &str| {
        all(list).find(|it| at(it, "/ID") == id).map_or_else(|| id.clone(), |it| at(it, path).clone())
    };
    let image = |service: &Json| {
        let image = at(service, "/Spec/TaskTemplate/ContainerSpec/Image").as_str().unwrap_or_default();
        image.split('@').next().unwrap_or_default().to_owned()
    };
    let service = |it: &Json| {
        let mode = at(it, "/Spec/Mode").as_object().and_then(|mode| mode.keys().next().cloned());
        json!({
            "name": at(it, "/Spec/Name"),
            "image": image(it),
            "mode": mode.map(|mode| mode.to_lowercase()),
            "running": at(it, "/ServiceStatus/RunningTasks"),
            "wanted": at(it, "/ServiceStatus/DesiredTasks"),
            "updated": at(it, "/UpdatedAt"),
        })
    };
    let node = |it: &Json| {
        json!({
            "hostname": at(it, "/Description/Hostname"),
            "role": at(it, "/Spec/Role"),
            "availability": at(it, "/Spec/Availability"),
            "state": at(it, "/Status/State"),
            "leader": at(it, "/ManagerStatus/Leader").as_bool().unwrap_or(false),
            "engine": at(it, "/Description/Engine/EngineVersion"),
        })
    };
    let task = |it: &Json| {
        json!({
            "service": name_of(services, at(it, "/ServiceID"), "/Spec/Name"),
            "slot": at(it, "/Slot"),
            "node": name_of(nodes, at(it, "/NodeID"), "/Description/Hostname"),
            "state": at(it, "/Status/State"),
            "wanted": at(it, "/DesiredState"),
            "error": at(it, "/Status/Err"),
            "since": at(it, "/Status/Timestamp"),
        })
    };
    json!({
        "available": true,
        "why_not": null,
        "services": all(services).map(service).collect::<Json>(),
        "nodes": all(nodes).map(node).collect::<Json>(),
        "tasks": all(tasks).map(task).collect::<Json>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_tells_is_shown_by_names() {
        let services = json!([{
            "ID": "s1", "UpdatedAt": "2026-01-02T03:04:05Z",
            "Spec": { "Name": "herd_pg01", "Mode": { "Replicated": { "Replicas": 1 } }, "TaskTemplate": { "ContainerSpec": { "Image": "pgherd-postgres:1@sha256:00" } } },
            "ServiceStatus": { "RunningTasks": 1, "DesiredTasks": 1 },
        }]);
        let nodes = json!([{ "ID": "n1", "Description": { "Hostname": "host", "Engine": { "EngineVersion": "28" } },
            "Spec": { "Role": "manager", "Availability": "active" }, "Status": { "State": "ready" }, "ManagerStatus": { "Leader": true } }]);
        let tasks = json!([{ "ServiceID": "s1", "NodeID": "n1", "Slot": 1, "DesiredState": "running",
            "Status": { "State": "running", "Timestamp": "2026-01-02T03:04:05Z" } }, { "ServiceID": "gone" }]);
        let shown = shown(&services, &nodes, &tasks);
        let service = json!({ "name": "herd_pg01", "image": "pgherd-postgres:1", "mode": "replicated", "running": 1, "wanted": 1, "updated": "2026-01-02T03:04:05Z" });
        assert_eq!(shown["services"][0], service);
        assert_eq!(shown["nodes"][0]["leader"], json!(true));
        assert_eq!(
            (&shown["tasks"][0]["service"], &shown["tasks"][0]["node"]),
            (&json!("herd_pg01"), &json!("host"))
        );
        assert_eq!(shown["tasks"][1]["service"], json!("gone"));
    }
}
