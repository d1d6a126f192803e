import type { ComponentType } from "react";
import type { IconName } from "../ui/icons";
import { Activity } from "../views/Activity";
import { Backups } from "../views/Backups";
import { Events } from "../views/events/Events";
import { Herd } from "../views/herd/Herd";
import { Nodes } from "../views/Nodes";
import { Pools } from "../views/pools/Pools";
import { Replication } from "../views/Replication";
import { Settings } from "../views/Settings";
import { Statements } from "../views/Statements";
import { Swarm } from "../views/Swarm";

export interface Page {
  path: string;
  title: string;
  icon: IconName;
  view: ComponentType;
}

export const pages: Page[] = [
  { path: "", title: "Herd", icon: "herd", view: Herd },
  { path: "replication", title: "Replication", icon: "replication", view: Replication },
  { path: "pools", title: "Pools and clients", icon: "pools", view: Pools },
  { path: "statements", title: "Statements", icon: "statements", view: Statements },
  { path: "activity", title: "Activity", icon: "activity", view: Activity },
  { path: "events", title: "Events", icon: "events", view: Events },
  { path: "nodes", title: "Nodes", icon: "nodes", view: Nodes },
  { path: "backups", title: "Backups", icon: "backups", view: Backups },
  { path: "swarm", title: "Swarm", icon: "swarm", view: Swarm },
  { path: "settings", title: "Settings", icon: "settings", view: Settings },
];
