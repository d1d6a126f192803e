import type { ReactNode } from "react";

const shapes = {
  herd: <><circle cx="10" cy="4.5" r="2.25" /><circle cx="4.5" cy="14.5" r="2.25" /><circle cx="15.5" cy="14.5" r="2.25" /><path d="M10 6.75v2.5M10 9.25 6 12.75M10 9.25l4 3.5" /></>,
  replication: <><path d="M3 6.5h11M11 3.5l3 3-3 3M17 13.5H6M9 10.5l-3 3 3 3" /></>,
  pools: <><circle cx="7" cy="6.5" r="2.75" /><path d="M2.25 16.5c0-3 2-4.75 4.75-4.75s4.75 1.75 4.75 4.75M12.5 4a2.75 2.75 0 0 1 0 5M14.5 12.25c2 .5 3.25 2 3.25 4.25" /></>,
  statements: <><path d="M3 5h14M3 10h9M3 15h11" /></>,
  activity: <><path d="M2 10.5h3.5L8 4l4 12.5 2.5-6H18" /></>,
  events: <><circle cx="10" cy="10" r="7" /><path d="M10 6v4.25l2.75 1.75" /></>,
  nodes: <><rect x="3" y="3" width="14" height="5.5" rx="1.5" /><rect x="3" y="11.5" width="14" height="5.5" rx="1.5" /><path d="M6 5.75h.01M6 14.25h.01" /></>,
  backups: <><ellipse cx="10" cy="5" rx="6.5" ry="2.5" /><path d="M3.5 5v10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5V5M3.5 10c0 1.4 2.9 2.5 6.5 2.5s6.5-1.1 6.5-2.5" /></>,
  swarm: <><path d="M10 2.5l3.25 1.9v3.7L10 10 6.75 8.1V4.4zM6.25 10l3.25 1.9v3.7L6.25 17.5 3 15.6v-3.7zM13.75 10 17 11.9v3.7l-3.25 1.9-3.25-1.9v-3.7z" /></>,
  settings: <><path d="M3 6h8M15 6h2M3 14h2M9 14h8" /><circle cx="13" cy="6" r="2" /><circle cx="7" cy="14" r="2" /></>,
  sun: <><circle cx="10" cy="10" r="3.5" /><path d="M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.35 4.35l1.05 1.05M14.6 14.6l1.05 1.05M4.35 15.65l1.05-1.05M14.6 5.4l1.05-1.05" /></>,
  moon: <path d="M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3z" />,
  menu: <path d="M3 5.5h14M3 10h14M3 14.5h14" />,
  more: <><circle cx="4.5" cy="10" r="1.1" /><circle cx="10" cy="10" r="1.1" /><circle cx="15.5" cy="10" r="1.1" /></>,
  close: <path d="m5 5 10 10M15 5 5 15" />,
  search: <><circle cx="9" cy="9" r="5.25" /><path d="m13 13 4 4" /></>,
  console: <><rect x="2.5" y="3.5" width="15" height="13" rx="2" /><path d="m6 8 2.5 2.25L6 12.5M10.5 13h3.5" /></>,
  warning: <><path d="M10 3 18 16.5H2z" /><path d="M10 8v4M10 14.25h.01" /></>,
  error: <><circle cx="10" cy="10" r="7.25" /><path d="M10 6v4.75M10 13.5h.01" /></>,
  ok: <><circle cx="10" cy="10" r="7.25" /><path d="m6.75 10.25 2.25 2.25 4.25-4.75" /></>,
  check: <path d="m4.5 10.5 3.5 3.5 7.5-8" />,
  wait: <><circle cx="10" cy="10" r="7.25" /><path d="M7 10h.01M10 10h.01M13 10h.01" /></>,
  apps: <><rect x="3" y="3.5" width="14" height="13" rx="2" /><path d="M3 7.5h14M5.5 5.5h.01M7.5 5.5h.01" /></>,
  stop: <rect x="5.5" y="5.5" width="9" height="9" rx="1" />,
  play: <path d="M6.5 4.5v11l9-5.5z" />,
  pause: <path d="M7 4.5v11M13 4.5v11" />,
  trash: <path d="M3.5 5.5h13M8 5.5V3.5h4v2M5.5 5.5l.75 11h7.5l.75-11" />,
  restore: <><path d="M4 10a6 6 0 1 1 1.75 4.25" /><path d="M4 6.5V10h3.5" /></>,
  edit: <path d="m4 13.5-.5 3 3-.5 9-9-2.5-2.5zM11.5 6 14 8.5" />,
  down: <path d="m5.5 8 4.5 4.5L14.5 8" />,
  user: <><circle cx="10" cy="7" r="3.25" /><path d="M3.75 17c.5-3.5 3-5.25 6.25-5.25s5.75 1.75 6.25 5.25" /></>,
  switch: <path d="M4 7h11.5M12.5 4l3 3-3 3M16 13H4.5M7.5 10l-3 3 3 3" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof shapes;

export function Icon({ name, className = "" }: { name: IconName; className?: string }) {
  return (
    <svg className={`icon ${className}`} viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      {shapes[name]}
    </svg>
  );
}
