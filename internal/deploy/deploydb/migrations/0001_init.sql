-- +goose Up
create table release (
  org text not null,
  id text not null primary key,
  service_id text not null,
  digest text not null,
  config_digest text not null,
  doc text not null,
  created bigint not null,
  unique (org, service_id, digest, config_digest)
);
create index release_by_service on release (org, service_id, id);

create table promotion (
  org text not null,
  id text not null primary key,
  service_id text not null,
  environment text not null,
  release_id text not null,
  state text not null,
  doc text not null,
  unique (release_id, environment)
);
create index promotion_by_state on promotion (state, id);

create table rollout (
  org text not null,
  id text not null primary key,
  service_id text not null,
  environment text not null,
  release_id text not null,
  state text not null,
  live integer not null,
  doc text not null
);
create index rollout_live on rollout (live, id);
create index rollout_by_service on rollout (org, service_id, environment, id);

create table rollout_decision (
  org text not null,
  rollout_id text not null,
  n integer not null,
  at bigint not null,
  doc text not null,
  primary key (rollout_id, n)
);

create table environment (
  org text not null,
  service_id text not null,
  name text not null,
  rollout_id text not null,
  generation bigint not null,
  doc text not null,
  primary key (service_id, name)
);

create table spec (
  org text not null,
  service_id text not null,
  environment text not null,
  release_id text not null,
  doc text not null,
  primary key (service_id, environment, release_id)
);
