import type { HerdNode } from "../../api/types";

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface Arrow {
  /** The server at its end. */
  node: number;
  path: string;
  /** Where its label begins, at half its height. */
  label: { x: number; y: number };
}

export interface Picture {
  narrow: boolean;
  height: number;
  apps: Box;
  endpoint: Box;
  servers: Map<number, Box>;
  /** From the applications to pgherd. */
  inbound: { path: string; label: { x: number; y: number } };
  routes: Arrow[];
  replication: (Arrow & { from: number })[];
}

export const cardHeight = 124;
const gap = 24;

/** The primary first, then the standbys by number: nobody changes place but by a promotion. */
export function ordered(nodes: HerdNode[]): HerdNode[] {
  const rank = (node: HerdNode) => (node.role === "primary" ? 0 : 1);
  return [...nodes].sort((a, b) => rank(a) - rank(b) || a.id - b.id);
}

/** Where everything is drawn in a picture of this width. */
export function layout(width: number, nodes: HerdNode[]): Picture {
  return width < 900 ? narrow(width, ordered(nodes)) : wide(width, ordered(nodes));
}

function wide(width: number, nodes: HerdNode[]): Picture {
  const rail = 128;
  const apps = { w: 132, h: 104 };
  const endpoint = { w: 176, h: 148 };
  const server = Math.min(360, Math.max(264, width * 0.3));
  const free = Math.max(200, width - rail - apps.w - endpoint.w - server);
  const height = Math.max(endpoint.h + 16, nodes.length * (cardHeight + gap) - gap);
  const middle = height / 2;
  const endpointX = apps.w + free * 0.42;
  const serverX = endpointX + endpoint.w + free * 0.58;
  const top = (height - (nodes.length * (cardHeight + gap) - gap)) / 2;
  const servers = new Map(nodes.map((node, i) => [node.id, { x: serverX, y: top + i * (cardHeight + gap), w: server, h: cardHeight }]));
  const from = endpointX + endpoint.w;
  const straight = Math.min(96, free * 0.58 * 0.62);
  const routes = nodes.map((node, i) => {
    const y = top + i * (cardHeight + gap) + cardHeight / 2;
    // They leave side by side, so that each can be followed.
    const start = middle + (i - (nodes.length - 1) / 2) * Math.min(16, 64 / nodes.length);
    const bend = serverX - straight;
    const reach = (bend - from) * 0.55;
    return {
      node: node.id,
      path: `M${from} ${start}C${from + reach} ${start} ${bend - reach} ${y} ${bend} ${y}H${serverX - 7}`,
      label: { x: bend + straight / 2 - 4, y: y - 10 },
    };
  });
  return {
    narrow: false,
    height,
    apps: { x: 0, y: middle - apps.h / 2, ...apps },
    endpoint: { x: endpointX, y: middle - endpoint.h / 2, ...endpoint },
    servers,
    inbound: { path: `M${apps.w} ${middle}H${endpointX - 7}`, label: { x: apps.w + (free * 0.42) / 2 - 4, y: middle - 10 } },
    routes,
    replication: rails(nodes, servers, 36, 12),
  };
}

function narrow(width: number, nodes: HerdNode[]): Picture {
  const left = 30;
  const right = 74;
  const apps = { x: 0, y: 0, w: width, h: 64 };
  const endpoint = { x: 0, y: apps.h + 44, w: width, h: 104 };
  const top = endpoint.y + endpoint.h + 28;
  const between = 16;
  const servers = new Map(nodes.map((node, i) => [node.id, { x: left, y: top + i * (cardHeight + between), w: width - left - right, h: cardHeight }]));
  const routes = nodes.map((node, i) => {
    const y = top + i * (cardHeight + between) + cardHeight / 2;
    const x = node.role === "primary" ? 5 : 13;
    return { node: node.id, path: `M${x} ${endpoint.y + endpoint.h}V${y - 8}Q${x} ${y} ${x + 8} ${y}H${left - 6}`, label: { x: 0, y: 0 } };
  });
  return {
    narrow: true,
    height: top + nodes.length * (cardHeight + between) - between,
    apps,
    endpoint,
    servers,
    inbound: { path: `M${width / 2} ${apps.h}V${endpoint.y - 7}`, label: { x: width / 2 + 12, y: apps.h + 22 } },
    routes,
    replication: rails(nodes, servers, 18, 6),
  };
}

/** One rail for each server that others follow, on the servers' right. */
function rails(nodes: HerdNode[], servers: Map<number, Box>, first: number, next: number): Picture["replication"] {
  const primary = nodes.find((node) => node.role === "primary")?.id ?? null;
  const upstreams: number[] = [];
  const result: Picture["replication"] = [];
  for (const node of nodes) {
    if (node.role === "primary") continue;
    const from = node.upstream ?? primary;
    const source = from === null ? undefined : servers.get(from);
    const target = servers.get(node.id);
    if (from === null || from === node.id || !source || !target) continue;
    if (!upstreams.includes(from)) upstreams.push(from);
    const rail = source.x + source.w + first + upstreams.indexOf(from) * next;
    const down = target.y > source.y;
    // A rail leaves a server lower than one ends in it.
    const start = source.y + source.h / 2 + (from === primary ? 0 : down ? 18 : -18);
    const end = target.y + target.h / 2;
    const turn = Math.min(8, first / 2) * (down ? 1 : -1);
    const r = Math.abs(turn);
    result.push({
      node: node.id,
      from,
      path: `M${source.x + source.w} ${start}H${rail - r}Q${rail} ${start} ${rail} ${start + turn}V${end - turn}Q${rail} ${end} ${rail - r} ${end}H${target.x + target.w + 6}`,
      label: { x: rail + 8, y: end },
    });
  }
  return result;
}
