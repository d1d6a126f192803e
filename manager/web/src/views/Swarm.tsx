import type { Swarm as Said } from "../api/reports";
import { useResource } from "../state/resource";
import { Badge, Empty, Loaded, PageHead, Panel, type Tone } from "../ui/parts";
import { type Column, Table } from "../ui/Table";
import { Cut, Moment, Text } from "../ui/Text";

type Service = Said["services"][number];
type Node = Said["nodes"][number];
type Task = Said["tasks"][number];

const services: Column<Service>[] = [
  { key: "name", title: "Service", width: 190, sort: (r) => r.name, show: (r) => <Cut>{r.name}</Cut> },
  { key: "running", title: "Running", width: 104, number: true, sort: (r) => r.running, show: (r) => <Badge tone={r.running >= r.wanted ? "ok" : "error"}>{r.running} of {r.wanted}</Badge> },
  { key: "mode", title: "Mode", width: 104, show: (r) => <Text>{r.mode}</Text> },
  { key: "image", title: "Image", sort: (r) => r.image, show: (r) => <Cut className="mono">{r.image}</Cut> },
  { key: "updated", title: "Updated", width: 168, sort: (r) => r.updated, show: (r) => <Moment at={r.updated} /> },
];

const nodes: Column<Node>[] = [
  { key: "hostname", title: "Host", sort: (r) => r.hostname, show: (r) => <Cut>{r.hostname}</Cut> },
  { key: "role", title: "Role", width: 150, show: (r) => <span className="row-badges"><Badge tone={r.leader ? "accent" : "plain"}><Text>{r.leader ? "leader" : r.role}</Text></Badge></span> },
  { key: "state", title: "State", width: 110, show: (r) => <Badge tone={r.state === "ready" ? "ok" : "error"}><Text>{r.state}</Text></Badge> },
  { key: "availability", title: "Availability", width: 120, show: (r) => <Badge tone={r.availability === "active" ? "plain" : "warning"}><Text>{r.availability}</Text></Badge> },
  { key: "engine", title: "Engine", width: 120, show: (r) => <Text className="mono">{r.engine}</Text> },
];

const taskTones: Record<string, Tone> = { running: "ok", failed: "error", rejected: "error", complete: "plain", shutdown: "plain" };

const tasks: Column<Task>[] = [
  { key: "service", title: "Task", width: 190, sort: (r) => r.service, show: (r) => <Cut>{r.slot === null ? r.service : `${r.service}.${r.slot}`}</Cut> },
  { key: "node", title: "Host", width: 140, sort: (r) => r.node, show: (r) => <Cut>{r.node}</Cut> },
  { key: "state", title: "State", width: 112, sort: (r) => r.state, show: (r) => <Badge tone={taskTones[r.state] ?? "warning"}><Text>{r.state}</Text></Badge> },
  { key: "wanted", title: "Wanted", width: 100, show: (r) => <Text>{r.wanted}</Text> },
  { key: "since", title: "Since", width: 168, sort: (r) => r.since, show: (r) => <Moment at={r.since} /> },
  { key: "error", title: "Error", show: (r) => <Cut>{r.error}</Cut> },
];

export function Swarm() {
  const said = useResource<Said>("swarm", 5);
  return (
    <>
      <PageHead title="Swarm" about="Services, hosts and tasks, as docker says. Nothing can be changed here." />
      <Loaded of={said}>
        {(data) =>
          data.available ? (
            <>
              <Panel title="Services" flush><Table label="Services" columns={services} rows={data.services} id={(r) => r.name} first={{ by: "name", down: false }} /></Panel>
              <Panel title="Hosts" flush><Table label="Hosts" columns={nodes} rows={data.nodes} id={(r) => r.hostname} first={{ by: "hostname", down: false }} /></Panel>
              <Panel title="Tasks" flush><Table label="Tasks" columns={tasks} rows={data.tasks} id={(r) => `${r.service} ${r.slot} ${r.node} ${r.since}`} first={{ by: "since", down: true }} /></Panel>
            </>
          ) : (
            <Panel><Empty icon="swarm" title="There is no swarm to see"><Text>{data.why_not ?? "pgherd has no docker socket."}</Text></Empty></Panel>
          )
        }
      </Loaded>
    </>
  );
}
