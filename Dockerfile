ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
# requirements-otel.txt has what traces need besides.
ARG PINS=requirements.txt
COPY ${PINS} /requirements.txt
# Wheels only: nothing is compiled, so nothing to compile with is needed.
RUN python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --no-cache-dir --no-compile --no-deps --only-binary :all: --require-hashes -r /requirements.txt
COPY db /app/db
COPY service /app/service
# The root file system may be read-only, so bytecode is made here; unchecked, as no source will change under it.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app /venv

FROM python:${PYTHON}
RUN pip uninstall --yes --root-user-action ignore pip \
 && rm -rf /usr/local/lib/python3*/ensurepip \
 && install -d -o 65532 -g 65532 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
# The default of DATABASE_URL, ./items.db, is in the volume then; were it set here, nobody could set DATABASE_URL_FILE. The
# code is found from there, and nothing that lies there is taken for code.
WORKDIR /data
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ITEMSVC_HOST=0.0.0.0
USER 65532:65532
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", "import os, ssl, sys; from http.client import HTTPConnection, HTTPSConnection; port = open(os.environ['PORT_FILE']).read() if 'PORT_FILE' in os.environ else os.environ.get('PORT', 8000); address = '127.0.0.1', int(port); tls = os.environ.get('ITEMSVC_TLS_CERT') or os.environ.get('ITEMSVC_TLS_CERT_FILE'); probe = HTTPSConnection(*address, timeout=2, context=ssl._create_unverified_context()) if tls else HTTPConnection(*address, timeout=2); probe.request('GET', '/livez'); sys.exit(probe.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]

ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="items-service" \
      org.opencontainers.image.description="Keeps items and serves them over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
