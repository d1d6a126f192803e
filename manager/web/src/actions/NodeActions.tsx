import type { HerdNode } from "../api/types";
import { useManager, useWhyNot } from "../state/manager";
import { visible } from "../state/visible";
import { Menu, type MenuItem } from "../ui/Menu";

/** All that can be done to a server. What cannot be right now is still there, with the reason. */
export function NodeMenu({ node, text }: { node: HerdNode; text?: string }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const primary = node.role === "primary" && node.up;
  const item = (action: string, label: string, refused: string | false | null = null, more: Partial<MenuItem> = {}): MenuItem => ({
    label,
    whyNot: whyNot ?? (refused || null),
    run: () => manager.ask({ action, node: node.id }),
    ...more,
  });
  const isPrimary = primary && "It is the primary: switch over to another server first";
  const down = !node.up && "It does not answer";
  const items: MenuItem[] = [
    item("switchover", "Switch over to it…", primary ? "It is the primary already" : down),
    item("promote", "Promote…", primary && "It is the primary already"),
    item("follow", "Follow the primary…", isPrimary, { apart: true }),
    item("rejoin", "Rejoin…", isPrimary),
    item("reclone", "Clone anew…", isPrimary, { danger: true }),
    node.detached ? item("attach", "Attach…", null, { apart: true }) : item("detach", "Detach…", isPrimary, { apart: true }),
    item("start", "Start…", node.up && "It is up"),
    item("stop", "Stop…", down, { danger: true }),
    { ...item("backup", "Take a backup…", down, { apart: true }), run: () => manager.ask({ action: "backup", node: node.id, kind: "base" }) },
    item("unregister", "Unregister from repmgr…", isPrimary, { danger: true, apart: true }),
  ];
  return <Menu label={`Actions on ${visible(node.name)}`} items={items} {...(text ? { text, icon: "down" as const } : {})} />;
}

export function HerdMenu({ text }: { text: string }) {
  const manager = useManager();
  const whyNot = useWhyNot();
  const give = (action: string, label: string, more: Partial<MenuItem> = {}): MenuItem => ({
    label,
    whyNot,
    run: () => manager.ask({ action }),
    ...more,
  });
  const items: MenuItem[] = [
    give("switchover", "Switch over…"),
    give("failover", "Fail over…", { danger: true }),
    give("pause_failover", "Pause failover…", { apart: true }),
    give("resume_failover", "Resume failover…"),
    give("reload", "Reload the configuration…", { apart: true }),
  ];
  return <Menu label="Actions on the herd" items={items} text={text} icon="down" />;
}
