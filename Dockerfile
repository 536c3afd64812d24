# One cell of the matrix: `docker build -t pt2e-ci .`, then `docker run pt2e-ci`.
#
# Build arguments:
#   TORCH  the cell, by its name in pt2e_ci/cells/cells.toml
#   BASE   an image of Debian or Ubuntu that has, or installs, a Python of the cell; by tag or by digest
# Beside them, none of which stays in the image:
#   --build-context wheels=DIR                     a folder of wheels, where no index has them
#   --secret id=pip,src=FILE                       pip's configuration: indexes, credentials
#   --secret id=ca,src=FILE                        certificates to trust beside the public ones' place
#   --secret id=torch-index,env=PT2E_CI_TORCH_INDEX   where torch comes from: cpu, host, or the address of an index
ARG BASE=debian:bookworm-slim

# What a stage trusts: the given certificates, else what the base has or names.
ARG TRUST="for ca in /run/secrets/ca \${SSL_CERT_FILE:-} /etc/ssl/certs/ca-certificates.crt; \
do if [ -e \$ca ]; then export SSL_CERT_FILE=\$ca PIP_CERT=\$ca; break; fi; done"

# Empty, unless the build context of that name takes its place.
FROM scratch AS wheels

# hadolint ignore=DL3006
FROM ${BASE} AS system
# Two builds of the same give the same layers: what a step has written gets one date, and what it leaves in /tmp goes.
ARG DATED="find / -xdev -cnewer /tmp/start -exec touch -h -d @0 {} +"
SHELL ["/bin/sh", "-euc"]
# No version is pinned: the base's digest pins the release, and Debian keeps only the newest of each package.
# hadolint ignore=DL3008,DL3009
RUN --mount=type=tmpfs,target=/tmp touch /tmp/start; \
    command -v python3 >/dev/null || { \
      apt-get update; \
      apt-get install -y --no-install-recommends python3; \
      apt-get clean; \
      rm -rf /var/lib/apt/lists/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/*.log /var/cache/debconf/*-old; \
    }; \
    python3 -m venv --without-pip /opt/pt2e-ci; \
    install -d -m 1777 /reports; \
    ${DATED}

FROM system AS tools
# A bare base has neither pip nor certificates, and the image needs neither once it is built.
# hadolint ignore=DL3008,DL3009
RUN { test -e /etc/ssl/certs/ca-certificates.crt && python3 -m venv /tools 2>/dev/null; } || { \
      apt-get update; \
      apt-get install -y --no-install-recommends ca-certificates python3-venv; \
      python3 -m venv /tools; \
    }
ARG TRUST

# The package is built apart, so that nothing of its building is left below.
FROM tools AS package
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=source=pt2e_ci/cells/locks/build.txt,target=/build.txt \
    eval "${TRUST}"; \
    /tools/bin/pip install --require-hashes --no-deps -r /build.txt
COPY pyproject.toml README.md LICENSE /source/
COPY pt2e_ci /source/pt2e_ci
RUN SOURCE_DATE_EPOCH=315532800 \
    /tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheel /source

FROM system AS cell
ARG TORCH=2.13
ARG TRUST
# With a date set, bytecode is kept by the digest of its source, and stays good when files are dated anew.
ARG PIP="env SOURCE_DATE_EPOCH=0 PIP_ROOT_USER_ACTION=ignore /tools/bin/pip --python /opt/pt2e-ci/bin/python install"
ENV PATH=/opt/pt2e-ci/bin:$PATH

RUN --mount=from=tools,source=/tools,target=/tools \
    --mount=from=tools,source=/etc/ssl/certs,target=/etc/ssl/certs \
    --mount=from=wheels,target=/wheels \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=type=tmpfs,target=/tmp \
    --mount=source=pt2e_ci/cells/cells.toml,target=/tmp/pt2e_ci/cells/cells.toml \
    --mount=source=pt2e_ci/errors.py,target=/tmp/pt2e_ci/errors.py \
    --mount=source=pt2e_ci/cells/pythons.py,target=/tmp/pt2e_ci/cells/pythons.py \
    --mount=source=pt2e_ci/cells/sources.py,target=/tmp/pt2e_ci/cells/sources.py \
    --mount=source=pt2e_ci/cells/locks/${TORCH}/torch.txt,target=/tmp/torch.txt \
    --mount=type=secret,id=torch-index \
    touch /tmp/start; \
    python -B /tmp/pt2e_ci/cells/pythons.py "${TORCH}"; \
    eval "${TRUST}"; \
    # An older BuildKit gives a secret as a file alone.
    PT2E_CI_TORCH_INDEX=$(cat /run/secrets/torch-index 2>/dev/null || true) PYTHONPATH=/tmp PIP_FIND_LINKS=/wheels \
      /tools/bin/python -m pt2e_ci.cells.sources ${PIP} --no-deps -r /tmp/torch.txt; \
    # A seventh of torch: its tests in C++, and headers for a compiler that is not here.
    rm -rf /opt/pt2e-ci/lib/python3*/site-packages/torch/test /opt/pt2e-ci/lib/python3*/site-packages/torch/include; \
    # A base that comes with a Python of its own has an installer, too.
    rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip; \
    ${DATED}

RUN --mount=from=tools,source=/tools,target=/tools \
    --mount=from=tools,source=/etc/ssl/certs,target=/etc/ssl/certs \
    --mount=from=wheels,target=/wheels \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca \
    --mount=type=cache,target=/root/.cache/pip \
    --mount=type=tmpfs,target=/tmp \
    --mount=source=pt2e_ci/cells/locks/${TORCH}/dependencies.txt,target=/tmp/dependencies.txt \
    touch /tmp/start; \
    eval "${TRUST}"; \
    PIP_FIND_LINKS=/wheels ${PIP} --require-hashes --no-deps -r /tmp/dependencies.txt; \
    /tools/bin/pip --python /opt/pt2e-ci/bin/python check || { \
      echo "torch asks for more than its lock has: it is no CPU build. Set PT2E_CI_TORCH_INDEX, or give wheels."; \
      exit 1; \
    } >&2; \
    ${DATED}

RUN --mount=from=tools,source=/tools,target=/tools \
    --mount=from=package,source=/wheel,target=/wheel \
    --mount=type=tmpfs,target=/tmp \
    touch /tmp/start; \
    ${PIP} --no-index --no-deps /wheel/*.whl; \
    python -B -m pt2e_ci.cells.locks "${TORCH}"; \
    ${DATED}

# What is written goes to /reports and /tmp, whoever the user is and whether or not the rest is read-only.
USER 1000:1000
WORKDIR /tmp
ENV HOME=/tmp LOGNAME=pt2e-ci PYTHONDONTWRITEBYTECODE=1 PYTEST_ADDOPTS="--report=/reports"
ENTRYPOINT ["pt2e-ci", "run"]

ARG SOURCE=
ARG REVISION=
LABEL org.opencontainers.image.title="pt2e-ci" \
      org.opencontainers.image.description="Does PT2E's reference representation really compute in integers?" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.pytorch.pt2e-ci.cell="${TORCH}"
