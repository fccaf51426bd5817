-- +goose Up
create index advisory_name_id on advisory_name (org, id);
create index advisory_package_id on advisory_package (org, id);
