-- +goose Up
create table advisory (
    org       text   not null,
    id        text   not null,
    summary   text   not null,
    severity  text   not null,
    score     text   not null, -- one decimal
    url       text   not null,
    modified  bigint not null,
    withdrawn integer not null,
    aliases   text   not null, -- JSON list
    primary key (org, id)
);
create table advisory_name (
    org  text not null,
    name text not null, -- the id itself or an alias, in upper case
    id   text not null,
    primary key (org, name, id)
);
create table advisory_package (
    org       text not null,
    ecosystem text not null,
    package   text not null,
    id        text not null,
    affected  text not null, -- JSON list of vuln.Affected
    primary key (org, ecosystem, package, id)
);
create table advisory_import (
    org        text   not null primary key,
    at         bigint not null,
    actor      text   not null,
    source     text   not null,
    digest     text   not null,
    advisories bigint not null
);
