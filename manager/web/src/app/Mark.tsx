export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M16 11.5v3.2M16 14.7 9.6 19M16 14.7l6.4 4.3" />
      <circle cx="16" cy="9" r="3.4" />
      <circle className="mark-follower" cx="8.6" cy="21.4" r="3.4" />
      <circle className="mark-follower" cx="23.4" cy="21.4" r="3.4" />
    </svg>
  );
}
